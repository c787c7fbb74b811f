"""`manyhands ps`: programs of several processes, and where these run."""

from __future__ import annotations

import time
from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb

#: Digits of an id that people see; `manyhands why` takes as few.
_DIGITS = 8


@click.command(
    cls=Verb,
    name="ps",
    examples=(
        ("", "manyhands ps"),
        ("what a process waits for", "manyhands why Process-3"),
    ),
)
@client_options("ps")
@json_option
def command(*, json: bool, **connection: Any) -> None:
    """List processes of programs that use manyhands.multiprocessing: node, pid, state, since when.

    WAITS is what a process waits for and since when. An admin's key sees the programs of all.
    """
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    members: list[dict[str, Any]] = []
    with client(**connection) as connected:
        while page := connected.query("ps", skip=len(members)):
            members += page
    if json:
        _output.document(processes=members)
        return
    now = time.time()
    _output.table(
        ["program", "id", "name", "node", "pid", "state", "since", "waits"],
        [
            [
                one["program_name"] or one["program"][:_DIGITS],
                one["id"][:_DIGITS],
                *(one[column] for column in ("name", "node", "pid")),
                one["state"] if one["code"] is None else f"ended ({one['code']})",
                f"{max(0.0, now - one['since']):.0f} s",
                "; ".join(one["waits"]),
            ]
            for one in members
        ],
    )
