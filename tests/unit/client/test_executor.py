"""`Executor`, against a broker that can misbehave."""

from __future__ import annotations

import collections
import gc
import multiprocessing
import operator
import pickle
import sys
import threading
import weakref
from concurrent.futures import CancelledError, Future
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pytest

from harness.brokers.client_broker import FakeBroker, busy_io_thread, client_threads
from harness.processes import eventually
from manyhands import Executor
from manyhands_shared.errors import (
    ClusterClosed,
    ConfigError,
    SubmitError,
    SubmitQueueFull,
)
from manyhands_shared.protocol import labels
from manyhands_shared.protocol.messages import Cancel, Function, Submit, SubmitGroup


def groups(broker: FakeBroker) -> list[SubmitGroup]:
    return [
        group
        for message in list(broker.received)
        if isinstance(message, Submit)
        for group in message.groups
    ]


def test_runs_calls(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        assert executor.submit(pow, 2, 10).result(100) == 1024
        assert executor.submit(int, "ff", base=16).result(100) == 255
        assert executor.submit(lambda x: x * 2, "ab").result(100) == "abab"
        with pytest.raises(ZeroDivisionError):
            executor.submit(operator.truediv, 1, 0).result(100)


def test_calls_of_one_function_are_one_job_and_the_function_travels_once(
    broker: FakeBroker,
) -> None:
    with Executor(address=broker.address, name="mine", priority=3) as executor:
        futures = [executor.submit(abs, -n) for n in range(1000)]
        assert [future.result(100) for future in futures] == list(range(1000))
    assert len({group.job for group in groups(broker)}) == 1
    assert broker.count(Function) == 1
    assert groups(broker)[0].options == {
        "name": "mine",
        "priority": 3,
        "direct": True,
        "echo": True,
        "python": labels.PYTHON,
    }
    eventually(lambda: groups(broker)[-1].closed)


def test_queued_calls_leave_together(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        with busy_io_thread(executor):
            futures = [executor.submit(abs, -n) for n in range(20_000)]
        for future in futures:
            future.result(100)
    assert broker.count(Submit) < 200


def test_a_rebound_global_is_seen_by_the_next_call(broker: FakeBroker) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "K": 1}
    exec("def f(): return K", space)
    with Executor(address=broker.address) as executor:
        assert executor.submit(space["f"]).result(100) == 1
        space["K"] = 2
        assert executor.submit(space["f"]).result(100) == 2


def test_arguments_are_taken_at_the_call(broker: FakeBroker) -> None:
    broker.holding = True
    big = np.zeros(100_000)
    with Executor(address=broker.address) as executor:
        future = executor.submit(np.sum, big)
        big[:] = 7
        broker.release()
        assert future.result(100) == 0


def test_large_arrays_come_back_whole_and_writable(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        array = np.arange(100_000, dtype="f8").reshape(1000, 100)
        result = executor.submit(np.negative, array).result(100)
        np.testing.assert_array_equal(result, -array)
        result += 1


class _Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


class _Unpicklable:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [pickle.PicklingError("no"), AttributeError("no"), KeyError("no"), _Odd(1, 2)]
)
def test_a_call_that_cannot_be_pickled_fails_with_what_pickle_raised(
    broker: FakeBroker, error: Exception
) -> None:
    bad = _Unpicklable(error)
    with Executor(address=broker.address) as executor:
        calls: list[Future[Any]] = [
            executor.submit(id, bad),
            executor.submit(lambda: bad),
            executor.submit(bad.__reduce__),
        ]
        for future in calls:
            with pytest.raises(SubmitError, match="cannot pickle") as caught:
                future.result(100)
            assert isinstance(caught.value, type(error))
        results = executor.map(abs, [-1, bad, -3])
        assert next(results) == 1
        with pytest.raises(type(error), match="cannot pickle the arguments"):
            next(results)
        assert executor.submit(abs, -1).result(100) == 1


def test_a_context_is_taken_where_the_standard_library_takes_it() -> None:
    with FakeBroker() as broker:
        with Executor(
            2, multiprocessing.get_context("fork"), print, ("ready",), address=broker.address
        ) as ours:
            assert ours._initializer is print
            assert ours._mp_context.get_start_method() == "fork"
        with Executor(2, max_tasks_per_child=3, address=broker.address) as ours:
            assert ours._mp_context.get_start_method() == "spawn"
            assert len(ours._processes) == 2


def test_nothing_of_a_call_waits_for_a_garbage_collection(broker: FakeBroker) -> None:
    kept = _Callable()
    seen = weakref.ref(kept)
    with Executor(address=broker.address) as executor:
        gc.collect()
        gc.disable()
        try:
            executor.submit(kept.call).result(100)
            del kept
            # The I/O thread may be on its way out of the functions that brought the result.
            eventually(lambda: seen() is None)
            results = executor.map(_Callable.make, range(3))
            for result in results:
                last = weakref.ref(result)
                del result
                eventually(partial(_is_gone, last))
        finally:
            gc.enable()


def _is_gone(last: weakref.ref[_Callable]) -> bool:
    return last() is None


class _Callable:
    def call(self) -> None:
        """Do nothing."""

    @staticmethod
    def make(_: int) -> _Callable:
        return _Callable()


def test_arguments_larger_than_the_window_fail() -> None:
    with FakeBroker(window_bytes=1 << 20) as broker, Executor(address=broker.address) as executor:
        with pytest.raises(SubmitError, match="1048576"):
            executor.submit(len, bytes(2 << 20)).result(100)
        assert executor.submit(len, bytes(500_000)).result(100) == 500_000


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 2])
def test_map(broker: FakeBroker, chunksize: int, buffersize: int | None) -> None:
    with Executor(address=broker.address) as executor:
        results = executor.map(pow, range(10), [2] * 10, chunksize=chunksize, buffersize=buffersize)
        assert list(results) == [n * n for n in range(10)]
        assert list(executor.map(abs, [], chunksize=chunksize, buffersize=buffersize)) == []
        for items in (range(-9, 0), list(range(-9, 0)), iter(range(-9, 0))):
            results = executor.map(abs, items, chunksize=chunksize, buffersize=buffersize)
            assert list(results) == list(range(9, 0, -1))


def test_map_raises_where_it_failed_and_cancels_the_rest(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        results = executor.map(operator.truediv, [1] * 5, [1, 2, 0, 4, 5])
        assert [next(results), next(results)] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_map_with_a_buffersize_reads_no_further_ahead(broker: FakeBroker) -> None:
    numbers = count()
    with Executor(address=broker.address) as executor:
        results = executor.map(abs, numbers, buffersize=5)
        assert [next(results) for _ in range(10)] == list(range(10))
        assert next(numbers) == 15
        results.close()  # type: ignore[attr-defined]


def test_map_times_out(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        results = executor.map(abs, [-1], timeout=0)
        with pytest.raises(TimeoutError):
            next(results)


def test_map_is_lazy_about_nothing_else(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        executor.map(abs, range(5))
        eventually(lambda: len(broker.runs) == 5, what="tasks run before a result is asked for")
        cases: tuple[dict[str, Any], ...] = ({"chunksize": 0}, {"buffersize": 0})
        for bad in cases:
            with pytest.raises(ValueError, match="must be"):
                executor.map(abs, [], **bad)


def test_shutdown_waits_for_what_was_submitted(broker: FakeBroker) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(abs, -n) for n in range(10)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])
    assert not any(future.done() for future in futures)
    broker.release()
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(10))
    executor.shutdown()


def test_a_second_shutdown_still_cancels(broker: FakeBroker) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(abs, -n) for n in range(3)]
    executor.shutdown(wait=False)
    executor.shutdown(wait=False, cancel_futures=True)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(100)
    executor.shutdown()


def test_shutdown_cancels_calls_of_any_number_of_jobs(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands._submit.calls._OPEN_JOBS", 2)
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(call, 1) for call in (abs, hex, oct, bin, chr)]
    executor.shutdown(wait=False, cancel_futures=True)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(100)
    executor.shutdown()


def test_shutdown_cancels_if_asked_to(broker: FakeBroker) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(abs, -n) for n in range(10)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert broker.runs == {}


def test_cancel_tells_the_broker_and_drops_a_late_result(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        first, second = executor.submit(abs, -1), executor.submit(abs, -2)
        eventually(lambda: groups(broker))
        assert first.cancel()
        with pytest.raises(CancelledError):
            first.result()
        eventually(lambda: broker.count(Cancel))
        broker.release()
        assert second.result(100) == 2
    assert len(broker.runs) == 1


def test_many_cancellations_go_together(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(5_000)]
        with busy_io_thread(executor):
            assert all(future.cancel() for future in futures)
    assert broker.count(Cancel) == 1


def test_a_dropped_executor_finishes_what_was_submitted(broker: FakeBroker) -> None:
    others = client_threads()
    broker.holding = True
    executor = Executor(address=broker.address)
    gone = weakref.ref(executor)
    future = executor.submit(abs, -1)
    del executor
    assert gone() is None, "at once, not when garbage is collected next"
    broker.release()
    assert future.result(100) == 1
    eventually(lambda: client_threads() <= others)


def test_options_keep_the_session_of_their_executor(broker: FakeBroker) -> None:
    executor = Executor(address=broker.address)
    gone = weakref.ref(executor)
    other = executor.with_options(retries=1).with_options(timeout=60.0)
    del executor
    assert gone() is not None
    assert other.submit(abs, -1).result(100) == 1
    del other
    assert gone() is None


def test_options_do_not_outlive_a_shutdown(broker: FakeBroker) -> None:
    executor = Executor(address=broker.address)
    first = executor.with_options(retries=1)
    second = first.with_options(timeout=60.0)
    second.shutdown()
    for each in (executor, first, second):
        with pytest.raises(RuntimeError, match="after shutdown"):
            each.submit(abs, 1)


def test_many_threads_submit(broker: FakeBroker) -> None:
    results: list[list[int]] = [[] for _ in range(4)]

    def work(executor: Executor, number: int) -> None:
        futures = [executor.submit(operator.add, number, n) for n in range(500)]
        results[number] = [future.result(100) for future in futures]

    with Executor(address=broker.address) as executor:
        threads = [threading.Thread(target=work, args=(executor, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
    assert results == [[number + n for n in range(500)] for number in range(4)]


def test_a_callback_may_submit(broker: FakeBroker) -> None:
    with Executor(address=broker.address, max_pending=1) as executor:
        done = threading.Event()
        chained: list[int] = []

        def again(future: Any) -> None:
            chained.append(future.result())
            if len(chained) < 50:
                executor.submit(abs, -len(chained)).add_done_callback(again)
            else:
                done.set()

        executor.submit(abs, 0).add_done_callback(again)
        assert done.wait(100)
    assert chained == list(range(50))


def test_more_functions_than_are_kept(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands._submit.calls._KNOWN_FUNCTIONS", 3)
    monkeypatch.setattr("manyhands._submit.calls._OPEN_JOBS", 3)
    with Executor(address=broker.address) as executor:
        adders = [lambda x, n=n: x + n for n in range(10)]
        for _ in range(2):
            futures = [executor.submit(adder, 1) for adder in adders]
            assert [future.result(100) for future in futures] == list(range(1, 11))
        eventually(lambda: sum(group.closed for group in groups(broker)) >= 14)


def test_a_call_that_meets_its_job_just_closed_still_runs(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        assert executor.submit(abs, -1).result(100) == 1
        (sink,) = executor._calls._opened._sinks.values.values()
        loop = executor._connection.io
        loop.call(loop.registry.close, sink.job)
        future = executor.submit(abs, -5)
        assert future.result(100) == 5


def test_initializer(broker: FakeBroker) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "def init(value):\n    global state\n    state = value\ndef get():\n    return state",
        space,
    )
    with Executor(address=broker.address, initializer=space["init"], initargs=(42,)) as executor:
        assert executor.submit(space["get"]).result(100) == 42
        assert executor.submit(abs, -1).result(100) == 1


def test_backpressure_raises_or_waits(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address, max_pending=100, block=False) as executor:
        with pytest.raises(SubmitQueueFull, match="max_pending"):
            collections.deque(executor.submit(abs, -n) for n in range(1_000))
        broker.release()
        eventually(lambda: executor._connection.io.queue.empty)
    broker.holding = True
    with Executor(address=broker.address, max_pending=100) as executor:
        futures: list[Any] = []
        thread = threading.Thread(
            target=lambda: futures.extend(executor.submit(abs, -n) for n in range(1_000))
        )
        thread.start()
        eventually(lambda: len(futures) >= 100)
        assert thread.is_alive()
        broker.release()
        thread.join(100)
        assert [future.result(100) for future in futures] == list(range(1_000))


def test_large_arguments_are_bounded_in_bytes(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands._io.connection.MAX_PENDING_BYTES", 1 << 20)
    broker.holding = True
    with Executor(address=broker.address, block=False) as executor:
        accepted = [executor.submit(len, bytes(300_000)) for _ in range(3)]
        with pytest.raises(SubmitQueueFull):
            executor.submit(len, bytes(300_000))
        broker.release()
        assert [future.result(100) for future in accepted] == [300_000] * 3


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_pending": 0}, ValueError, "max_pending"),
        ({"initializer": 1}, TypeError, "callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks"),
        ({"priority": 10_000}, ConfigError, "priority"),
        ({"name": "x" * 1000}, ConfigError, "name"),
        ({"address": "http://nowhere"}, ConfigError, "address"),
        ({"retries": 2, "at_most_once": True}, ConfigError, "leave one out"),
        ({"speculative": True, "at_most_once": True}, ConfigError, "leave one out"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        Executor(**{"address": "tcp://127.0.0.1:1", **options})


def test_futures_of_a_closed_session_fail(broker: FakeBroker) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    future = executor.submit(abs, -1)
    executor._connection.abort(ClusterClosed("for this test"))
    with pytest.raises(ClusterClosed, match="for this test"):
        future.result(100)
    with pytest.raises(ClusterClosed, match="for this test"):
        executor.submit(abs, -1)
    executor.shutdown()


def test_memory_of_ended_tasks_is_let_go(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(1_000)]
        for future in futures:
            future.result(100)
        references = [weakref.ref(future) for future in futures]
        del futures, future
        gc.collect()
        assert not any(reference() for reference in references)
        (sink,) = executor._calls._opened._sinks.values.values()
        assert sys.getsizeof(sink._futures) < 200_000
        assert not sink._futures
