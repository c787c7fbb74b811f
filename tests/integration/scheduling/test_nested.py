"""Tasks that wait for tasks of the same cluster lend their slots: nothing stands still."""

from __future__ import annotations

import pytest

from harness.processes import eventually
from manyhands import Client, Executor, LocalCluster, Pool

BOUND = 120.0


def tree(address: str, depth: int) -> int:
    """Count the leaves of a tree: each node of it waits for a task for each of its two branches."""
    if depth == 0:
        return 1
    with Executor(address=address) as executor:
        branches = [executor.submit(tree, address, depth - 1) for _ in range(2)]
        return sum(branch.result() for branch in branches)


def nested(address: str, number: int) -> list[int]:
    with Pool(address=address) as pool:
        return pool.map(abs, range(-number, 0))


def test_tasks_wait_for_tasks_on_the_only_slot() -> None:
    with (
        LocalCluster(nodes=1, slots=1) as cluster,
        Executor(address=cluster.address) as executor,
        Client(cluster.address) as client,
    ):
        assert executor.submit(tree, cluster.address, 3).result(BOUND) == 8
        # What was lent is taken back.
        eventually(lambda: client.query("stats")["slots"] == 1, BOUND)
        assert executor.submit(abs, -1).result(BOUND) == 1


@pytest.mark.parametrize("count", [4])
def test_pools_in_all_slots_of_a_pool(count: int) -> None:
    with LocalCluster(nodes=2, slots=1) as cluster, Pool(address=cluster.address) as pool:
        found = pool.starmap(nested, [(cluster.address, n) for n in range(count)], chunksize=1)
    assert found == [list(range(n, 0, -1)) for n in range(count)]
