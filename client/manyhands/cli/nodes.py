"""`manyhands nodes`: who works for the broker."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb

_MIB = 1 << 20


@click.command(
    cls=Verb,
    name="nodes",
    examples=(
        ("", "manyhands nodes"),
        ("for a program", "manyhands nodes --json | jq '.nodes | length'"),
    ),
)
@client_options("nodes")
@json_option
def command(*, json: bool, **connection: Any) -> None:
    """List the broker's nodes: slots, tasks, CPU in cores, memory in MiB, the last sign of life.

    PRESSURE is what a node's machine is under. With memory little of it is available: the node gets
    nothing new while another can take it. With load other programs keep its cores busy: it comes last.

    LACKS is what keeps a node from running work that waits. It is another Python than that of a client
    whose functions travel by value, or pickles where a node is a safe one. `manyhands why` says more.
    """
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    with client(**connection) as connected:
        nodes = sorted(connected.query("nodes"), key=lambda node: str(node["name"]))
    if json:
        _output.document(nodes=nodes)
        return
    columns = (
        *("name", "state", "slots", "running", "active", "done"),
        *("host", "pid", "python", "cpu"),
    )
    _output.table(
        [*columns, "rss", "age", "pressure", "lacks"],
        [
            [
                *(node.get(column) for column in columns),
                *(_mib(node.get("rss")), node.get("age"), node["pressure"]),
                ", ".join(node["lacks"]),
            ]
            for node in nodes
        ],
    )


def _mib(size: int | None) -> int | None:
    return None if size is None else size // _MIB
