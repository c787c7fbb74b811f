"""`manyhands drain`: have nodes finish what they run, and leave."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli._duration import TIME_LIMIT
from manyhands.cli._errors import TimedOut
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands import Client

#: Between two looks at who is still there.
_LOOK_SECONDS = 0.5


@click.command(
    cls=Verb,
    name="drain",
    examples=(("before its host is switched off", "manyhands drain node-1 --wait"),),
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option("--wait", is_flag=True, help="Until they have left.")
@click.option(
    "--timeout", type=TIME_LIMIT, help="With --wait: give up after so long, with exit code 124."
)
@client_options("drain")
def command(
    *, nodes: tuple[str, ...], wait: bool, timeout: float | None, **connection: Any
) -> None:
    """Have nodes finish what they run, and leave: no task is lost, or counted as failed.

    A node that is drained takes nothing new and gives back what it has not started. What still runs
    after its --drain-timeout runs again elsewhere. The node then ends with exit code 0.
    """
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    deadline = None if timeout is None else time.monotonic() + timeout
    with client(**connection) as connected:
        leaving = {}
        for name in nodes:
            ordered = connected.query("drain", node=name)
            leaving[ordered["boot_id"]] = name
            click.echo(f"{name} drains; it holds {ordered['held']} tasks")
        if wait:
            _wait(connected, leaving, deadline)


def _wait(client: Client, leaving: dict[str, str], deadline: float | None) -> None:
    """Until no node of `leaving`, names by boot id, is left."""
    pause = threading.Event()
    while leaving:
        here = {node["boot_id"] for node in client.query("nodes")}
        for boot_id in [one for one in leaving if one not in here]:
            click.echo(f"{leaving.pop(boot_id)} has left")
        if leaving:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOut(f"still here: {', '.join(leaving.values())}; they go on draining")
            pause.wait(_LOOK_SECONDS)
