"""`manyhands drain`: have nodes finish what they run, and leave."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._duration import TIME_LIMIT
from manyhands.cli._errors import JobFailed, TimedOut
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.errors import Refused
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from manyhands import Client

#: Between two looks at who is still there.
_POLL_SECONDS = 0.5


@click.command(
    cls=Verb,
    name="drain",
    examples=(("before its host is switched off", "manyhands drain node-1 --wait"),),
)
@click.argument(
    "nodes",
    nargs=-1,
    required=True,
    metavar="NODE...",
    type=NAMED,
    shell_complete=_completing.nodes,
)
@click.option("--wait", is_flag=True, help="Until they have left.")
@click.option(
    "--timeout", type=TIME_LIMIT, help="With --wait: give up after this time, with exit code 124."
)
@client_options("drain")
@json_option
def command(
    *, nodes: tuple[str, ...], wait: bool, timeout: float | None, json: bool, **connection: Any
) -> None:
    """Have nodes finish what they run, and leave: no task is lost, or counted as failed.

    A node that is drained takes nothing new and gives back what it has not started. What still runs
    after its --drain-timeout runs again elsewhere. The node then ends with exit code 0.

    If one of several names is no node's, no node is drained.
    """
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    deadline = None if timeout is None else time.monotonic() + timeout
    with client(**connection) as connected:
        here = {node["name"] for node in connected.query("nodes")}
        missing = [name for name in nodes if name not in here]
        if missing:
            named = ", ".join(map(repr, missing))
            raise JobFailed(f"no node {named} here, so none was drained; see: manyhands nodes")
        told = _Told(json=json)
        leaving = {}
        for name in dict.fromkeys(nodes):
            try:
                ordered = connected.query("drain", node=name)
            except Refused:
                if name in {node["name"] for node in connected.query("nodes")}:
                    raise
                # It has left since the look at who is here.
                told.left(name)
                continue
            leaving[ordered["boot_id"]] = name
            told.drains(name, ordered["active"])
        try:
            if wait:
                _wait(connected, leaving, deadline, told)
        finally:
            told.document()


class _Told:
    """What is printed of nodes: a line for each event, or one document at the end."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._nodes: dict[str, dict[str, Any]] = {}

    def drains(self, name: str, active: int) -> None:
        """A node was told to leave."""
        self._nodes[name] = {"name": name, "active": active, "left": False}
        if not self._json:
            _output.say(f"{name} drains; it has {amount(active, 'active task')}")

    def left(self, name: str) -> None:
        """A node is no more."""
        self._nodes.setdefault(name, {"name": name, "active": 0})["left"] = True
        if not self._json:
            _output.say(f"{name} has left")

    def document(self) -> None:
        """Print the document, if one is wanted."""
        if self._json:
            _output.document(nodes=list(self._nodes.values()))


def _wait(client: Client, leaving: dict[str, str], deadline: float | None, told: _Told) -> None:
    """Until no node of `leaving`, names by boot id, is left."""
    pause = threading.Event()
    while leaving:
        here = {node["boot_id"] for node in client.query("nodes")}
        for boot_id in [one for one in leaving if one not in here]:
            told.left(leaving.pop(boot_id))
        if leaving:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOut(f"still here: {', '.join(leaving.values())}; they go on draining")
            pause.wait(_POLL_SECONDS)
