"""`manyhands top`: jobs, nodes and slots on a terminal, as they are now."""

from __future__ import annotations

import sys
from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="top",
    examples=(
        ("", "manyhands top"),
        ("the tables once, for a file or a mail", "manyhands top --once"),
    ),
)
@click.option("--once", is_flag=True, help="Print the tables once, as off a terminal.")
@client_options("top")
@json_option
def command(*, once: bool, json: bool, **connection: Any) -> None:
    """Show jobs, nodes and slots as they are now; sort, filter, cancel, pause and drain by a key.

    Keys: 1 jobs, 2 nodes, 3 slots. / filters, s sorts by the next column, r turns the order. c cancels
    the chosen job, p pauses it or has it go on, d drains the chosen node. q ends it. It takes the extra
    manyhands[top] on a terminal, and waits for a broker that is restarted.
    """
    from manyhands.cli import _connect  # noqa: PLC0415 - so that --help is quick

    live = not (once or json) and _output.is_live(sys.stdout) and sys.stdin.isatty()
    if live:
        from manyhands.cli._top.app import Top  # noqa: PLC0415 - 300 ms, and an extra
    with _connect.client(**connection) as client:
        if not live:
            from manyhands.cli._top.plain import print_once  # noqa: PLC0415

            print_once(client, json=json)
            return
        app = Top(client)
        app.run()
    if app.error is not None:
        raise app.error
