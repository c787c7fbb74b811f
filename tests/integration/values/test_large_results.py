"""Large results on one host: borrowed from where they lie, never copied through a socket."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import manyhands
from harness.processes import eventually, lent_memory
from manyhands._io import transfers
from manyhands_shared import shm

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")

BOUND = 110.0
ITEMS = 1 << 20  # of 8 bytes


@pytest.fixture
def cluster() -> Iterator[manyhands.LocalCluster]:
    with manyhands.LocalCluster(nodes=1, slots=1) as started:
        yield started


def unended(cluster: manyhands.LocalCluster) -> int:
    """Tasks that the broker has not seen the end of."""
    with manyhands.Client(cluster.address) as client:
        return sum(int(node["active"] + node["lent"]) for node in client.query("nodes"))


def test_arrays_come_whole_and_can_be_written_to(executor: manyhands.Executor) -> None:
    arrays = [executor.submit(np.full, ITEMS, n) for n in range(12)]
    for n, future in enumerate(arrays):
        array: Any = future.result(BOUND)
        assert (array == n).all()
        array += 1  # as with a result of a process pool
        assert (array == n + 1).all()
    assert executor.submit(np.full, ITEMS, 3).result(BOUND)[0] == 3, (
        "another process's change came back"
    )


def test_memory_is_used_again_and_kept_arrays_are_left_alone(
    executor: manyhands.Executor,
) -> None:
    child = executor.submit(os.getpid).result(BOUND)
    kept = executor.submit(np.full, ITEMS, -1).result(BOUND)
    for n in range(20):
        array = executor.submit(np.full, ITEMS, n).result(BOUND)
        assert array[0] == array[-1] == n
        del array
        gc.collect()
    assert (kept == -1).all()
    # The one that is kept, and one or two that go back and forth.
    assert 1 < len(lent_memory(child)) <= 4


def test_a_node_that_dies_takes_no_array_along(
    cluster: manyhands.LocalCluster, executor: manyhands.Executor
) -> None:
    kept = executor.submit(np.full, ITEMS, 7).result(BOUND)
    os.kill(cluster.nodes[0].pid, signal.SIGKILL)
    eventually(lambda: cluster.nodes[0].process.poll() is not None, what="the node is dead")
    assert (kept == 7).all()


def test_an_array_outlives_its_client(cluster: manyhands.LocalCluster) -> None:
    with manyhands.Executor(address=cluster.address) as executor:
        kept = executor.submit(np.full, ITEMS, 7).result(BOUND)
    with manyhands.Executor(address=cluster.address) as executor:
        for n in range(10):
            executor.submit(np.full, ITEMS, n).result(BOUND)
    assert (kept == 7).all()


def test_what_cannot_be_fetched_comes_through_the_broker(
    cluster: manyhands.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shm, "host_id", lambda: "elsewhere")
    with manyhands.Executor(address=cluster.address) as executor:
        arrays = [executor.submit(np.full, ITEMS, n) for n in range(6)]
        for n, future in enumerate(arrays):
            assert (future.result(BOUND) == n).all()
    eventually(lambda: not unended(cluster), what="the node lets go of everything")


def test_cancelled_results_are_let_go(
    cluster: manyhands.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A client that never fetches.
    monkeypatch.setattr(transfers.Transfers, "fetch", lambda *_: None)
    with manyhands.Executor(address=cluster.address) as executor:
        # Loads numpy over there. Else the first array seems to take as long as that, and nothing more
        # is sent to wait behind such slow tasks.
        assert executor.submit(len, np.ones(3)).result(BOUND) == 3
        futures = [executor.submit(np.full, ITEMS, n) for n in range(3)]
        try:
            eventually(lambda: unended(cluster) == 3, what="all are held")
            assert not any(future.done() for future in futures)
        finally:
            cancelled = [future.cancel() for future in futures]
        assert all(cancelled)
        eventually(lambda: not unended(cluster), what="the node lets go of everything")
        assert executor.submit(abs, -5).result(BOUND) == 5


def test_large_results_of_other_kinds(executor: manyhands.Executor) -> None:
    big = executor.submit(bytes, 3_000_000).result(BOUND)
    assert big == bytes(3_000_000)
    pair = executor.submit(_pair, ITEMS).result(BOUND)
    assert pair["a"].sum() == ITEMS
    assert (pair["b"] == np.arange(ITEMS)).all()


def _pair(count: int) -> dict[str, Any]:
    return {"a": np.ones(count), "b": np.arange(count)}
