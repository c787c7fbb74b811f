"""Functions and classes of a script: as they are at each call, the script's own when they return."""

from __future__ import annotations

import enum
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

import manyhands
from harness.processes import eventually
from manyhands._session.inputs.input_refs import MIN_BYTES
from manyhands_shared import shm

BOUND = 110.0
SCRIPT = """
import enum
import numpy
log = []
table = numpy.zeros(300_000)
nested = {"a": {"b": [1]}}
class Item:
    rate = 1
    def __init__(self, value=0): self.value = value
    def note(self): log.append(self.value)
    def method(self): return 1
    def __call__(self): return self.value
class Color(enum.Enum):
    RED = 1
class Infeasible(Exception):
    def __init__(self, point):
        super().__init__(point)
        self.point = point
def rate(): return Item.rate, Item().method()
def rate_of(item): return item.rate, item.method()
def total(): return float(table.sum())
def deep(): return nested
def make(value): return Item(value)
def red(): return Color.RED
def which(): return helper
def helper(): return 1
def solve(size): raise Infeasible(numpy.ones(size))
def counted():
    rate.calls = getattr(rate, "calls", 0) + 1
    return rate.calls
"""


@pytest.fixture
def script() -> dict[str, Any]:
    """The globals of a script."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, space)
    return space


def test_a_class_that_changes_and_changes_back(
    executor: manyhands.Executor, script: dict[str, Any]
) -> None:
    item = script["Item"]
    futures = []
    for rate in (1, 2, 1, 3, 1):
        item.rate = rate
        item.method = lambda _self, rate=rate: rate + 100
        futures += [
            executor.submit(script["rate"]),
            executor.submit(script["rate_of"], item()),  # the class comes with the argument alone
            executor.submit(item(rate + 7)),
            executor.submit(item(rate).method),
        ]
        if rate == 3:
            assert futures[-1].result(BOUND) == 103  # and what is late does not see what came later
    found = [future.result(BOUND) for future in futures]
    assert found == [
        value
        for rate in (1, 2, 1, 3, 1)
        for value in ((rate, rate + 100), (rate, rate + 100), rate + 7, rate + 100)
    ]


def test_arrays_and_containers_that_change(
    executor: manyhands.Executor, script: dict[str, Any]
) -> None:
    futures = []
    for n in range(4):
        script["table"][n] = 10
        script["nested"]["a"]["b"].append(n)
        futures.append((executor.submit(script["total"]), executor.submit(script["deep"])))
    for n, (sums, deep) in enumerate(futures):
        assert sums.result(BOUND) == 10 * (n + 1)
        assert deep.result(BOUND) == {"a": {"b": [1, *range(n + 1)]}}


def test_results_are_of_the_classes_of_the_script(
    executor: manyhands.Executor, script: dict[str, Any]
) -> None:
    item = script["Item"]
    item.rate = 5
    assert type(executor.submit(script["make"], 3).result(BOUND)) is item
    item.rate = 6
    for made in executor.map(script["make"], range(3), chunksize=2):
        assert type(made) is item
        made.note()
    assert item.rate == 6
    assert script["log"] == [0, 1, 2]
    assert executor.submit(script["red"]).result(BOUND) is script["Color"].RED
    assert isinstance(script["Color"].RED, enum.Enum)


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_an_exception_of_the_script_comes_as_itself_whatever_it_carries(
    executor: manyhands.Executor, script: dict[str, Any], size: int
) -> None:
    with pytest.raises(script["Infeasible"]) as caught:
        executor.submit(script["solve"], size).result(BOUND)
    assert caught.value.point.sum() == size
    caught.value.point += 1


def test_what_a_task_changes_stays_with_its_function(
    executor: manyhands.Executor, script: dict[str, Any]
) -> None:
    executor = executor.with_options(name="one")
    counts = {executor.submit(script["counted"]).result(BOUND) for _ in range(20)}
    assert max(counts) > 1  # as in a child of a pool that goes on


@pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")
def test_a_large_array_that_a_function_refers_to_is_kept_once_and_let_go(
    executor: manyhands.Executor,
) -> None:
    store = executor._connection.io.store
    gc.disable()  # memory must not wait for the collector
    ended: list[Any] = []  # futures that are kept do not keep functions
    for n in range(60):
        data = np.full(MIN_BYTES // 2, n)  # 4 MiB

        def total(data: Any = data) -> float:
            return float(data.sum())

        futures = [executor.submit(total) for _ in range(2)]
        assert {future.result(BOUND) for future in futures} == {n * data.size}
        ended += futures
    store._recent.clear()
    try:
        # 32 MiB here and in each of the two children.
        eventually(lambda: len(store._segments) <= 3 * 8 + 2, what="most are let go")
    finally:
        gc.enable()


def private(pid: int) -> int:
    """Bytes of a process's own. The segments that results are lent in stay, for the next ones."""
    memory = psutil.Process(pid).memory_info()
    return int(memory.rss - memory.shared)


def test_an_idle_child_holds_neither_argument_nor_result(
    cluster: manyhands.LocalCluster,
) -> None:
    def use(function: Callable[[Any], Any], argument: Any) -> tuple[int, Any]:
        return os.getpid(), function(argument)

    before: dict[int, int] = {}
    with manyhands.Executor(address=cluster.address) as executor:
        # Either of the two children may run what follows, so both have run something like it before.
        while len(before) < 2:
            futures = [executor.submit(use, len, b"x") for _ in range(2)]
            for pid, _ in [future.result(BOUND) for future in futures]:
                before.setdefault(pid, private(pid))
        users = {
            executor.submit(use, function, argument).result(BOUND)[0]
            for function, argument in ((len, bytes(96 << 20)), (bytes, 96 << 20))
        }

        def let_go() -> bool:
            grown = [private(pid) - before[pid] for pid in users]
            return bool(grown) and max(grown) < 60 << 20

        eventually(let_go, what="they let go of them")


@pytest.mark.timeout(400)
def test_with_options_that_always_change_keeps_few_jobs_open(
    executor: manyhands.Executor,
) -> None:
    for n in range(600):
        executor.with_options(timeout=100 + n).submit(abs, -n).result(BOUND)
    assert len(executor._calls_by_options._calls) < 10
    eventually(lambda: open_jobs(executor) <= 256)
    # One that is closed meanwhile opens another.
    kept = executor.with_options(timeout=50)
    for _ in range(2):
        assert kept.submit(abs, -1).result(BOUND) == 1
        for n in range(300):
            executor.with_options(timeout=100 + n).submit(abs, -n).result(BOUND)


def open_jobs(executor: manyhands.Executor) -> int:
    return len(executor._connection.io.registry._jobs)


def test_calls_from_many_threads_of_a_function_that_changes(
    executor: manyhands.Executor, script: dict[str, Any]
) -> None:
    found: list[Any] = []

    def call() -> None:
        found.extend(executor.submit(script["deep"]).result(BOUND)["a"]["b"] for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(20):
        script["nested"]["a"]["b"].append(n)
    for thread in threads:
        thread.join()
    assert all(values == [1, *range(len(values) - 1)] for values in found)
    assert executor.submit(script["deep"]).result(BOUND) == script["nested"]
