"""A cluster with a key whose parts are on hosts of their own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.cluster.bench import abandon
from harness.processes import eventually
from manyhands import Client, Executor, LocalCluster
from manyhands.testbed import Host, Network

PORT = 7711
BOUND = 100.0


class Keyed:
    """A broker with a key, and a client, on the first of the hosts; nodes and executors where put.

    Args:
        network: the hosts.
        stack: ends everything.
        folder: where the key comes to be.
        broker: options of the broker's.
    """

    def __init__(self, network: Network, stack: ExitStack, folder: Path, **broker: Any) -> None:
        self.network = network
        self.stack = stack
        self.home, *self.others = network.hosts
        self.key_file = str(folder / "cluster.key")
        with self.home.inside():
            self.cluster = LocalCluster(
                nodes=0,
                broker={
                    "bind": f"tcp://{self.home.address}:{PORT}",
                    "key_file": self.key_file,
                    "create_key": True,
                    "beat_interval": 0.1,
                    **broker,
                },
                worker={"key_file": self.key_file},
            )
            stack.callback(self.cluster.close, drain=False)
            self.client = stack.enter_context(Client(self.cluster.address, key_file=self.key_file))

    def node(self, host: Host) -> None:
        """Start one there, of the host's name, and wait until it has joined."""
        with host.inside():
            self.cluster.add_node(host.name)
        eventually(lambda: host.name in self.names(), BOUND, what="it joins")

    def connect(self, host: Host) -> Executor:
        """An executor there, whose unfinished calls are dropped at the end."""
        with host.inside():
            executor = Executor(address=self.cluster.address, key_file=self.key_file)
        self.stack.callback(abandon, executor)
        return executor

    def joined(self, count: int) -> None:
        """Wait until the broker has `count` nodes."""
        eventually(lambda: len(self.names()) == count, BOUND, what=f"{count} nodes joined")

    def names(self) -> list[str]:
        """Of the nodes that the broker has."""
        return [str(node["name"]) for node in self.client.query("nodes")]

    def counters(self) -> dict[str, int]:
        """The broker's."""
        return dict(self.client.query("stats")["counters"])
