"""`manyhands dashboard`: the broker's page in a browser, with the rights of one's key."""

from __future__ import annotations

import webbrowser
from typing import Any
from urllib.parse import urlsplit

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.transport import address

#: What a server listens on that listens everywhere.
_EVERYWHERE = ("0.0.0.0", "::")


@click.command(
    cls=Verb,
    name="dashboard",
    examples=(
        ("", "manyhands dashboard"),
        (
            "for a browser elsewhere; the address is good for a minute",
            "manyhands dashboard --print",
        ),
    ),
)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@client_options("dashboard")
@json_option
def command(*, only_print: bool, json: bool, **connection: Any) -> None:
    """Open the dashboard of a broker that was started with --http.

    The address has a token in it. With it the page may do what your key may, for half a day.
    """
    from manyhands.cli import _connect  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        found = client.query("dashboard")
        url = f"{_reachable(found['url'], client.address)}/enter?token={found['token']}"
    if json:
        _output.document(url=url)
    elif only_print or not webbrowser.open(url):
        _output.say(url)
    else:
        _output.note("the dashboard opens in your browser; --print prints its address instead")


def _reachable(url: str, broker: str) -> str:
    """Return the address by which a server is reached that listens everywhere on the broker's host."""
    parts = urlsplit(url)
    if parts.hostname not in _EVERYWHERE:
        return url
    host = "127.0.0.1" if address.is_unix(broker) else address.host_of(broker)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port}"
