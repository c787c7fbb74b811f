"""Where tasks go in a cluster of two hosts: to the host of their client, which has their arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from harness.cluster.hosts import BOUND, Keyed
from harness.processes import eventually
from manyhands.testbed import Host, Network
from manyhands_shared import shm

#: Of an array, and its bytes.
COUNT = 2 << 20
SIZE = 8 * COUNT


@pytest.fixture
def moved() -> Iterator[None]:
    """This process tells anew which host it is on, and afterwards again."""
    shm.host_id.cache_clear()
    yield
    shm.host_id.cache_clear()


def last(array: Any) -> float:
    return float(array[-1])


@pytest.mark.usefixtures("moved")
def test_large_arguments_stay_on_their_clients_host(
    network: Callable[[int], Network], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        keyed = Keyed(network(2), stack, tmp_path)
        home, other = keyed.network.hosts
        for host in (home, other):
            keyed.node(host)
        executor = keyed.connect(home)
        with home.inside():
            ref = executor.scatter(np.ones(20 << 17))
            for _ in range(10):
                assert executor.submit(last, ref).result(BOUND) == 1.0
        done = {node["name"]: node["done"] for node in keyed.client.query("nodes")}
        assert done == {home.name: 10, other.name: 0}
        assert not keyed.counters().get("values_relayed")


def received(host: Host) -> int:
    """Bytes that have come to this host over the network."""
    with host.inside():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    fields = [line.split() for line in lines if ":" in line and "lo:" not in line]
    return sum(int(field[1]) for field in fields)


def made(count: int, wait: float, fifo: str) -> Any:
    """Return an array once the test has opened the fifo, which is when it is an input of others."""
    with open(fifo):  # noqa: PTH123 - waits
        return np.full(count, wait)


def part(array: Any, number: int, folder: str) -> float:
    """Return an item, once a part has begun on each of the two hosts."""
    Path(folder, Path("/proc/self/ns/net").readlink()).touch()
    eventually(lambda: len(list(Path(folder).iterdir())) >= 2, BOUND, what="both run some")
    return float(array[number])


def scaled(array: Any, factor: int) -> Any:
    sleep(float(array[0]))
    return array * factor


def total(arrays: list[Any]) -> float:
    return sum(float(array[-1]) for array in arrays)


def test_a_result_comes_to_each_node_once_and_never_to_its_client(
    network: Callable[[int], Network], tmp_path: Path
) -> None:
    """However many tasks there need it. Counted at the hosts' interfaces; the broker passes it on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ExitStack() as stack:
        keyed = Keyed(network(4), stack, tmp_path)
        desk, *others = keyed.others
        for host in others:
            keyed.node(host)
        executor = keyed.connect(desk)

        def counts() -> tuple[int, int]:
            """What has come to the two nodes, and to the client."""
            return sum(map(received, others)), received(desk)

        before = counts()
        folder = tmp_path / "hosts"
        folder.mkdir()
        source = executor.submit(made, COUNT, 0.1, str(fifo))
        parts = [executor.submit(part, source, number, str(folder)) for number in range(12)]
        fifo.open("w").close()
        assert sum(future.result(BOUND) for future in parts) == pytest.approx(1.2)
        nodes, client = (now - then for now, then in zip(counts(), before, strict=True))
        done = {node["name"]: node["done"] for node in keyed.client.query("nodes")}
        assert min(done.values()) > 0, "both have run some"
        assert SIZE < nodes < 1.5 * SIZE
        assert client < SIZE // 4
        # A diamond: the source comes to the other node, and one of the sides back, at most once each.
        before = counts()
        source = executor.submit(made, COUNT, 0.1, str(fifo))
        sides = [executor.submit(scaled, source, factor) for factor in (1, 2)]
        end = executor.submit(total, sides)
        fifo.open("w").close()
        assert end.result(BOUND) == pytest.approx(0.3)
        nodes, client = (now - then for now, then in zip(counts(), before, strict=True))
        assert nodes < 2.5 * SIZE
        assert client < SIZE // 4
