"""`manyhands up`: a cluster on this machine, in the foreground."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import click

from manyhands.cli import _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import json_option
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands import LocalCluster


#: How often it looks whether every process is still there.
_LOOK_SECONDS = 0.5


@click.command(
    cls=Verb,
    name="up",
    examples=(
        ("two nodes, one slot each", "manyhands up"),
        (
            "the address goes to stdout, for other terminals",
            "export MANYHANDS_BROKER=tcp://127.0.0.1:PORT",
        ),
    ),
)
@click.option("--nodes", type=click.IntRange(1, 64), default=2, show_default=True, help="Nodes.")
@click.option(
    "--slots",
    type=click.IntRange(1, 1_024),
    default=1,
    show_default=True,
    help="Slots of each node.",
)
@json_option
def command(*, nodes: int, slots: int, json: bool) -> None:
    """Run a broker and nodes on this machine until Ctrl-C or SIGTERM, then end them all.

    Ending waits for the tasks that run, half a minute at most; a second Ctrl-C does not.
    """
    from manyhands import LocalCluster  # noqa: PLC0415 - so that --help is quick

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with LocalCluster(nodes=nodes, slots=slots) as cluster:
            if json:
                _output.document(address=cluster.address, pids=cluster.pids)
            else:
                _output.note(
                    f"nodes: {nodes}, slots of each: {slots}; Ctrl-C ends them; the broker is at"
                )
                click.echo(cluster.address)
            _watch(cluster)
    except KeyboardInterrupt:
        _output.note("ended")


def _watch(cluster: LocalCluster) -> NoReturn:
    """Look after the processes until a signal comes; it tells of a node that dies."""
    pause = threading.Event()
    lost = 0
    while True:
        pause.wait(_LOOK_SECONDS)
        if cluster.broker is not None and cluster.broker.poll() is not None:
            raise JobFailed(
                f"the broker ended with exit code {cluster.broker.returncode}; start again"
            )
        ended = [node for node in cluster.nodes if node.process.poll() is not None]
        for node in ended[lost:]:
            _output.note(f"node {node.name} ended with exit code {node.process.returncode}")
        lost = len(ended)
        if lost == len(cluster.nodes):
            raise JobFailed("no node is left; start again")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
