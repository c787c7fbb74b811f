"""Two nodes of one host: it has one agent, by which the pool children of both come into programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster.parts import Node
from harness.processes import eventually
from harness.programs import HOST, Hosts, Script
from manyhands import Client

# Both tasks wait at the barrier: each is on a node of its own, which has one slot.
PROGRAM = """
    def work(lock, barrier, number):
        barrier.wait(60)
        with lock:
            return number

    if __name__ == "__main__":
        tasks = int(sys.argv[1])
        lock, barrier = mp.Lock(), mp.Barrier(tasks)
        with mp.Pool(tasks) as pool:
            print(pool.starmap(work, [(lock, barrier, n) for n in range(tasks)], chunksize=1))
"""


class TwoNodes(Hosts):
    """Two nodes, with a slot each, of one host."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ())
        for name in ("first", "second"):
            self.join(name)

    def join(self, name: str) -> None:
        """Start a node, and wait until it is there."""
        prefix = ["env", f"{HOST}=:both"]
        self.nodes[name] = Node(self.folder, self.broker.address, name, prefix=prefix)
        with Client(self.broker.address) as client:
            eventually(lambda: name in self.names(client), what="the node joined")

    def leave(self, name: str) -> None:
        """Kill a node, and wait until the broker knows."""
        self.nodes[name].kill()
        with Client(self.broker.address) as client:
            eventually(lambda: name not in self.names(client), what="the node is gone")

    @staticmethod
    def names(client: Client) -> list[str]:
        """Return the nodes that are there."""
        return [str(one["name"]) for one in client.query("nodes")]

    def run(self, tasks: int) -> None:
        """Run the program, whose root is on another host."""
        script = Script(self.folder, PROGRAM, address=self.broker.address, arguments=[str(tasks)])
        code, err = script.finish()
        assert (code, err) == (0, ""), script.lines
        assert script.lines == [str(list(range(tasks)))]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoNodes]:
    """Two nodes of one host."""
    started = TwoNodes(tmp_path)
    yield started
    started.close()


def test_children_of_both_nodes_join(hosts: TwoNodes) -> None:
    hosts.run(2)
    # Now the host has its agent, and the other node knows where.
    hosts.run(2)


def test_the_other_node_has_the_agent_when_the_first_is_killed(hosts: TwoNodes) -> None:
    hosts.run(2)
    for gone in ("first", "second"):
        hosts.leave(gone)
        hosts.run(1)
        hosts.join(gone)
        hosts.run(2)
