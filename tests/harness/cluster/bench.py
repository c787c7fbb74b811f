"""A cluster in parts for one test, ended in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import manyhands
from harness.cluster.parts import Broker, Node
from harness.processes import eventually
from manyhands_shared.errors import ClusterClosed

#: Seconds for a broker that listens to answer, on a machine that is busy.
_PATIENCE = 100.0


class Bench:
    """Starts parts and clients, and ends them in the opposite order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.stack = ExitStack()

    def broker(self, **config: Any) -> Broker:
        """Start a broker."""
        broker = Broker(self.folder, **config)
        self.stack.callback(broker.close)
        return broker

    def node(self, address: str, name: str = "", **config: Any) -> Node:
        """Start a node."""
        node = Node(self.folder, address, name or f"node-{len(self.nodes)}", **config)
        self.stack.callback(node.close)
        self.nodes.append(node)
        return node

    def client(self, address: str) -> manyhands.Client:
        """A client to ask questions with."""
        return self.stack.enter_context(manyhands.Client(address, connect_timeout=_PATIENCE))

    def executor(self, address: str, **options: Any) -> manyhands.Executor:
        """An executor whose unfinished calls are dropped at the end."""
        options = {"connect_timeout": _PATIENCE, **options}
        executor = manyhands.Executor(address=address, **options)
        self.stack.callback(abandon, executor)
        return executor


def abandon(executor: manyhands.Executor) -> None:
    """End it now: after a failure no broker may be left to answer what `shutdown` waits for."""
    executor._connection.abort(ClusterClosed("the test is over"))
    executor.shutdown(wait=False)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.stack:
        yield made


def counters(client: manyhands.Client) -> dict[str, int]:
    """What the broker has counted."""
    return dict(client.query("stats")["counters"])


def joined(client: manyhands.Client, count: int) -> None:
    """Wait until the broker has `count` nodes."""
    eventually(lambda: len(client.query("nodes")) == count, 120, what=f"{count} nodes joined")
