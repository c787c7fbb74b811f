"""Large arguments lie with their client, and come to each node once."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any

import numpy as np
import pytest

import manyhands
from harness.processes import eventually, lent_memory
from manyhands._values import store as stores
from manyhands_shared import shm

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")

BOUND = 110.0
ITEMS = 1 << 20  # of 8 bytes


@pytest.fixture(autouse=True)
def values_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the moment for which they linger would pass by itself; see `forget`."""
    monkeypatch.setattr(stores, "_RECENT_SECONDS", 600.0)


def kept(executor: manyhands.Executor) -> int:
    """Segments that the executor's session keeps."""
    return len(executor._connection.io.store._segments)


def forget(executor: manyhands.Executor) -> None:
    """Let the moment pass for which values linger."""
    gc.collect()
    executor._connection.io.store._recent.clear()


def total(array: Any, plus: int = 0) -> float:
    return float(array.sum()) + plus


def overwrite(array: Any) -> float:
    array[:] = -1
    return float(array.sum())


def same(value: Any) -> Any:
    return value


def is_writable(array: Any) -> bool:
    return bool(array.flags.writeable)


def test_an_argument_of_many_calls_is_kept_once(executor: manyhands.Executor) -> None:
    array = np.ones(ITEMS)
    futures = [executor.submit(total, array, n) for n in range(40)]
    assert [future.result(BOUND) for future in futures] == [ITEMS + n for n in range(40)]
    assert kept(executor) == 1
    del futures
    forget(executor)
    eventually(lambda: not kept(executor), what="it is let go")


def test_a_task_may_write_to_its_argument_and_nobody_sees_it(executor: manyhands.Executor) -> None:
    array = np.ones(ITEMS)
    for _ in range(4):
        assert executor.submit(overwrite, array).result(BOUND) == -ITEMS
        assert executor.submit(total, array).result(BOUND) == ITEMS
    assert array.sum() == ITEMS


def test_a_call_gets_its_argument_as_it_was_when_it_was_made(executor: manyhands.Executor) -> None:
    array = np.zeros(ITEMS)
    futures = []
    for n in range(10):
        array[:] = n
        futures.append(executor.submit(total, array))
    assert [future.result(BOUND) for future in futures] == [n * ITEMS for n in range(10)]


def test_what_is_scattered_comes_as_its_value_and_is_for_reading(
    executor: manyhands.Executor,
) -> None:
    ref = executor.scatter(np.ones(ITEMS))
    assert "Ref of 83" in repr(ref)
    assert executor.submit(total, ref, plus=1).result(BOUND) == ITEMS + 1
    assert executor.submit(is_writable, ref).result(BOUND) is False
    assert executor.submit(_nested, {"deep": [ref, 5]}).result(BOUND) == ITEMS + 5
    small = executor.scatter({"a": 1})
    assert executor.submit(same, small).result(BOUND) == {"a": 1}


def _nested(value: dict[str, Any]) -> float:
    array, plus = value["deep"]
    return total(array, plus)


def test_a_call_keeps_what_it_was_given(executor: manyhands.Executor) -> None:
    ref = executor.scatter(np.ones(ITEMS))
    futures = [executor.submit(total, ref, n) for n in range(20)]
    del ref
    forget(executor)
    assert [future.result(BOUND) for future in futures] == [ITEMS + n for n in range(20)]


def test_a_pool_takes_references_in_its_items(cluster: manyhands.LocalCluster) -> None:
    with manyhands.Pool(address=cluster.address) as pool:
        ref = pool.scatter(np.ones(ITEMS))
        assert pool.starmap(total, [(ref, n) for n in range(10)]) == [ITEMS + n for n in range(10)]
        assert list(pool.imap(total, [ref] * 3)) == [ITEMS] * 3
        assert pool.apply(total, (ref,)) == ITEMS


def test_through_the_broker_where_it_cannot_be_borrowed(
    cluster: manyhands.LocalCluster, elsewhere: manyhands.Executor
) -> None:
    ref = elsewhere.scatter(np.ones(ITEMS))
    futures = [elsewhere.submit(total, ref, n) for n in range(20)]
    assert [future.result(BOUND) for future in futures] == [ITEMS + n for n in range(20)]
    nodes = [node.pid for node in cluster.nodes]
    assert any(lent_memory(pid) for pid in nodes)
    del ref, futures
    forget(elsewhere)
    eventually(lambda: not any(map(lent_memory, nodes)), what="the nodes let go of it")


def test_a_new_node_gets_it_anew(
    cluster: manyhands.LocalCluster, executor: manyhands.Executor
) -> None:
    ref = executor.scatter(np.ones(ITEMS))
    assert executor.submit(total, ref).result(BOUND) == ITEMS
    for node in cluster.nodes:
        os.kill(node.pid, signal.SIGKILL)
    cluster.add_node()
    assert executor.submit(total, ref, 2).result(BOUND) == ITEMS + 2


def test_a_durable_job_takes_the_value_along(cluster: manyhands.LocalCluster) -> None:
    with manyhands.Client(cluster.address) as client:
        ref = client.scatter(np.ones(ITEMS))
        job = client.submit_job(total, [(ref, n) for n in range(2)], durable=True)
        job_id = job.id
    with manyhands.Client(cluster.address) as client:
        assert sorted(client.attach(job_id).results()) == [ITEMS, ITEMS + 1]


def test_there_is_a_bound_to_what_is_kept(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_BYTES", 20 << 20)
    futures = [executor.submit(total, np.full(ITEMS, n)) for n in range(12)]  # 8 MiB each
    assert [future.result(BOUND) for future in futures] == [n * ITEMS for n in range(12)]
    held = [executor.scatter(np.full(ITEMS, n)) for n in range(2)]
    assert len(held) == 2
    with manyhands.Executor(address=executor.address, block=False) as other:
        mine = [other.scatter(np.full(ITEMS, n)) for n in range(2)]
        with pytest.raises(manyhands.SubmitQueueFull):
            other.submit(total, np.full(ITEMS, 9.0))
        del mine


def test_a_reference_is_nothing_to_other_processes(executor: manyhands.Executor) -> None:
    import pickle

    ref = executor.scatter(np.ones(10))
    assert (pickle.loads(pickle.dumps(ref)) == np.ones(10)).all(), "the value goes along"
