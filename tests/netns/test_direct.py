"""Large results between hosts: from the node to the client, and through the broker where that fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from harness.cluster.hosts import Keyed
from harness.processes import calls_of, eventually, lent_memory
from manyhands._values import remote_fetch
from manyhands.testbed import Host, Network, Shape

BOUND = 100.0
#: A lease that a test waits out, and one that no node loses for the sake of a busy machine.
LEASE, LONG_LEASE = 3.0, 100.0
ITEMS = 3 << 20  # of 8 bytes
NBYTES = 8 * ITEMS
#: Of the traffic through a host: what is no large result.
SMALL = 2 << 20
#: Bytes a second: slow enough to do something in the middle of a transfer, on a busy machine too.
SLOW = 1_000_000
#: Bytes of a transfer that is on its way.
BEGUN = 1 << 19


class Three(Keyed):
    """A broker, an executor and a node, each on a host of its own."""

    def __init__(self, network: Network, stack: ExitStack, folder: Path, lease: float) -> None:
        super().__init__(network, stack, folder, lease=lease, crash_limit=1_000)
        self.user, self.mill = self.others
        self.node(self.mill)
        self.executor = self.connect(self.user)
        # It serves from here on.
        eventually(self._serves, BOUND, what="the node serves results")

    def _serves(self) -> bool:
        return bool(ports(self.mill))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    with ExitStack() as stack:
        yield Three(stack.enter_context(Network(3)), stack, tmp_path, LONG_LEASE)


@pytest.fixture
def short_leased(tmp_path: Path) -> Iterator[Three]:
    """One whose nodes may lose their leases."""
    with ExitStack() as stack:
        yield Three(stack.enter_context(Network(3)), stack, tmp_path, LEASE)


def ports(host: Host) -> list[int]:
    """Return the TCP ports on which a process of that host listens."""
    with host.inside():
        texts = [Path(f"/proc/thread-self/net/{kind}").read_text() for kind in ("tcp", "tcp6")]
    found = []
    for line in (line for text in texts for line in text.splitlines()[1:]):
        _, local, _, status = line.split()[:4]
        if status == "0A":
            found.append(int(local.rpartition(":")[2], 16))
    return found


def traffic(host: Host) -> int:
    """Bytes that have reached a host's card."""
    with host.inside():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    [card] = [line for line in lines if line.strip().startswith("eth0:")]
    return int(card.partition(":")[2].split()[0])


def numbers(start: int) -> Any:
    """Return a large array in which each item differs from its neighbours."""
    return np.arange(start, start + ITEMS)


def note(folder: str, start: int) -> Any:
    """The same, and leaves a trace of having run."""
    Path(folder, f"{os.getpid()}").touch()
    return np.arange(start, start + ITEMS)


def check(three: Three, start: int) -> None:
    assert (three.executor.submit(numbers, start).result(BOUND) == numbers(start)).all()


def test_results_do_not_pass_the_broker(three: Three) -> None:
    check(three, 0)
    before = [traffic(host) for host in (three.home, three.user)]
    futures = [three.executor.submit(numbers, start) for start in range(5)]
    for start, future in enumerate(futures):
        array = future.result(BOUND)
        assert (array == numbers(start)).all()
        array += 1  # as with a result of a process pool
    broker, user = (
        traffic(host) - old for host, old in zip((three.home, three.user), before, strict=True)
    )
    print(f"{broker} bytes to the broker, {user} to the client")
    assert broker < SMALL
    assert user > 5 * NBYTES
    eventually(lambda: not unended(three), what="the node lets go of everything")
    # And uses its memory again.
    child = three.executor.submit(os.getpid).result(BOUND)
    for start in range(8):
        check(three, start)
    assert len(lent_memory(child)) <= 6, "no more than there were results at once"


def unended(three: Three) -> int:
    return sum(int(node["active"] + node["lent"]) for node in three.client.query("nodes"))


def test_a_node_that_lets_nobody_in_is_left_alone_for_a_while(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(three, 0)
    three.network.drop(three.user, three.mill)
    monkeypatch.setattr(remote_fetch, "FORGET_SECONDS", 3_600.0)
    tried = calls_of(monkeypatch, remote_fetch, "FetchConnection")
    other = three.connect(three.user)
    before = traffic(three.home)
    for start in range(3):
        assert (other.submit(numbers, start).result(BOUND) == numbers(start)).all()
    assert traffic(three.home) - before > 3 * NBYTES
    assert len(tried) == 1
    eventually(lambda: not unended(three), what="the node lets go of everything")


def in_mid_transfer(three: Three, folder: Path) -> Any:
    """Return a result that has come in part, over a slow cable."""
    check(three, 0)
    three.network.shape(three.mill, Shape(rate=SLOW))
    before = traffic(three.user)
    future = three.executor.submit(note, str(folder), 7)
    eventually(lambda: traffic(three.user) - before > BEGUN, BOUND, what="it is on its way")
    assert not future.done()
    return future


def runs(folder: Path) -> int:
    return len([entry for entry in folder.iterdir() if entry.name.isdigit()])


def test_a_node_that_dies_in_mid_transfer_has_its_task_run_again(
    three: Three, tmp_path: Path
) -> None:
    future = in_mid_transfer(three, tmp_path)
    os.kill(three.cluster.nodes[0].pid, signal.SIGKILL)
    # Not before: a node takes long to start on a busy machine, and the transfer would be over.
    three.node(three.home)
    assert (future.result(BOUND) == numbers(7)).all()
    assert runs(tmp_path) == 2


def test_a_way_that_is_cut_in_mid_transfer_leaves_that_through_the_broker(
    three: Three, tmp_path: Path
) -> None:
    future = in_mid_transfer(three, tmp_path)
    three.network.drop(three.mill, three.user)
    three.network.shape(three.mill, None)
    assert (future.result(BOUND) == numbers(7)).all()
    assert runs(tmp_path) == 1, "it was relayed"
    eventually(lambda: not unended(three), what="the node lets go of everything")


def test_a_cable_that_is_cut_in_mid_transfer(short_leased: Three, tmp_path: Path) -> None:
    three = short_leased
    future = in_mid_transfer(three, tmp_path)
    three.network.partition([three.mill])
    three.node(three.home)
    assert (future.result(BOUND) == numbers(7)).all()
    assert runs(tmp_path) >= 2


def test_a_client_that_stops_reading_costs_the_node_nothing(three: Three, tmp_path: Path) -> None:
    """What was asked for and is not taken is no memory of the node's, and its loop turns on."""
    check(three, 0)
    node = psutil.Process(three.cluster.nodes[0].pid)
    rss = node.memory_info().rss
    three.network.drop(three.mill, three.user)
    futures = [three.executor.submit(note, str(tmp_path), start) for start in range(4)]
    eventually(lambda: unended(three) >= 1, BOUND, what="one is held")
    near = three.connect(three.home)
    assert near.submit(abs, -3).result(BOUND) == 3
    assert node.memory_info().rss - rss < 2 * NBYTES
    three.network.heal()
    for start, future in enumerate(futures):
        assert (future.result(BOUND) == numbers(start)).all()
