"""Real nodes that cannot borrow from their client: tasks go where their large arguments are."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest

import manyhands
from manyhands_shared import shm

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")

BOUND = 110.0
MIB = 1 << 20


def counters(cluster: manyhands.LocalCluster) -> Counter[str]:
    with manyhands.Client(cluster.address) as client:
        return Counter(client.query("stats")["counters"])


def where(array: Any) -> tuple[int, float]:
    """The node's child, and the array's sum."""
    return os.getpid(), float(array.sum())


def test_tasks_go_where_their_argument_is_and_it_travels_once(
    cluster: manyhands.LocalCluster, elsewhere: manyhands.Executor
) -> None:
    arrays = [np.full(20 * MIB // 8, float(n)) for n in range(4)]
    refs = [elsewhere.scatter(array) for array in arrays]
    places: dict[int, set[int]] = {n: set() for n in range(4)}
    for _ in range(6):
        for n, ref in enumerate(refs):
            child, total = elsewhere.submit(where, ref).result(BOUND)
            assert total == arrays[n].sum()
            places[n].add(child)
    assert all(len(children) == 1 for children in places.values()), "each value has its node"
    assert counters(cluster)["values_relayed"] == 4, "once each"
    # A task whose value is late is given back and placed again.
    assert counters(cluster)["tasks_placed"] >= 4 * 5


def test_a_plain_argument_is_known_as_well(
    cluster: manyhands.LocalCluster, elsewhere: manyhands.Executor
) -> None:
    array = np.ones(20 * MIB // 8)
    children = {elsewhere.submit(where, array).result(BOUND)[0] for _ in range(10)}
    assert len(children) == 1
    assert counters(cluster)["values_relayed"] == 1


def test_many_tasks_use_all_nodes_and_the_value_comes_to_each_once(
    cluster: manyhands.LocalCluster, elsewhere: manyhands.Executor
) -> None:
    ref = elsewhere.scatter(np.ones(20 * MIB // 8))
    futures = [elsewhere.submit(where, ref) for _ in range(400)]
    results = [future.result(BOUND) for future in futures]
    assert {total for _, total in results} == {20 * MIB // 8}
    assert counters(cluster)["values_relayed"] <= 2, "no more than once for each node"


def test_a_node_on_the_clients_host_needs_no_transfer(cluster: manyhands.LocalCluster) -> None:
    with manyhands.Executor(address=cluster.address) as executor:
        ref = executor.scatter(np.ones(20 * MIB // 8))
        assert len({executor.submit(where, ref).result(BOUND)[1] for _ in range(10)}) == 1
    assert counters(cluster)["values_relayed"] == 0
    assert counters(cluster)["tasks_placed"] == 10
