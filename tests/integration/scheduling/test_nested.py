"""Tasks that wait for tasks of the same cluster lend their slots: nothing stands still."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from harness.cluster.bench import abandon
from harness.processes import eventually
from manyhands import Client, Executor, LocalCluster, Pool

BOUND = 120.0
#: All that a node of these tests has.
ALL = {"gpu": 1.0, "cpus": 1.0, "memory": 1e9, "licence": 1.0}


def tree(address: str, depth: int) -> int:
    """Count the leaves of a tree: each node of it waits for a task for each of its two branches."""
    if depth == 0:
        return 1
    with Executor(address=address) as executor:
        branches = [executor.submit(tree, address, depth - 1) for _ in range(2)]
        return sum(branch.result() for branch in branches)


def chain(address: str, depth: int) -> int:
    """Wait for a task that waits for a task, and so on."""
    if depth == 0:
        return 0
    with Executor(address=address) as executor:
        return 1 + executor.submit(chain, address, depth - 1).result()


def nested(address: str, number: int) -> list[int]:
    with Pool(address=address) as pool:
        return pool.map(abs, range(-number, 0))


def on_gpu(address: str, number: int) -> int:
    """Have a task with the device run in a pool of its own, from one that has it."""
    with Executor(address=address, resources=ALL) as executor:
        return sum(executor.map(abs, range(-number, 0)))


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


@pytest.mark.slow
def test_a_chain_of_tasks_that_wait_is_as_deep_as_it_likes() -> None:
    depth = 35
    with (
        LocalCluster(nodes=1, slots=1, worker={"window": 1}) as cluster,
        Executor(address=cluster.address) as executor,
    ):
        assert executor.submit(chain, cluster.address, depth).result(BOUND) == depth


@pytest.mark.parametrize("count", [4])
def test_pools_in_all_slots_of_a_pool(count: int) -> None:
    with LocalCluster(nodes=2, slots=1) as cluster, Pool(address=cluster.address) as pool:
        found = pool.starmap(nested, [(cluster.address, n) for n in range(count)], chunksize=1)
    assert found == [list(range(n, 0, -1)) for n in range(count)]


def test_what_tasks_take_of_a_node_is_lent_with_the_slot() -> None:
    offered = ",".join(f"{name}={amount:g}" for name, amount in ALL.items())
    with (
        LocalCluster(nodes=1, slots=1, worker={"resources": offered}) as cluster,
        Client(cluster.address) as client,
        ExitStack() as stack,
    ):
        executor = Executor(address=cluster.address, resources=ALL)
        stack.callback(abandon, executor)
        futures = [executor.submit(on_gpu, cluster.address, number) for number in range(3)]
        assert [future.result(BOUND) for future in futures] == [0, 1, 3]
        # What was lent is taken back.
        eventually(lambda: client.query("nodes")[0]["free"] == ALL, BOUND)
