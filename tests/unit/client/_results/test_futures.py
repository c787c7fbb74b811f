"""Futures of remote tasks with everything in the standard library that takes futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker
from harness.threads import no_thread_left
from manyhands import Executor
from manyhands._results import futures as module
from manyhands._results.futures import RemoteFuture, resolve
from manyhands_shared.errors import RemoteTraceback, ResultError
from manyhands_shared.payloads import pickled
from manyhands_shared.processes import thread_start
from manyhands_shared.protocol.exceptions import of_exception
from manyhands_shared.protocol.messages import Status


def future() -> RemoteFuture:
    return RemoteFuture(None)


def end(*futures: RemoteFuture, value: object = 1) -> None:
    resolve(list(futures), bytes(len(futures)), [pickled.dumps(value)] * len(futures))


def fail(one: RemoteFuture, error: Exception) -> None:
    resolve([one], bytes([Status.RAISED]), [of_exception(error).encode()])


def is_bare(one: RemoteFuture) -> bool:
    return "_condition" not in vars(one)


class Unloadable:
    def __reduce__(self) -> tuple[object, ...]:
        return (int, ("not a number",))


def test_needs_no_condition_when_asked_after_the_end() -> None:
    one = future()
    assert not one.done()
    end(one, value=[1, 2])
    assert one.done()
    assert one.result() == [1, 2]
    assert one.result() is one.result()
    assert one.exception() is None
    assert is_bare(one)


def test_what_its_caller_has_ended_is_ended_again_without_a_condition() -> None:
    one = future()
    assert one.settle_quietly(pickled.dumps("the first"))
    end(one, value="the second")
    assert one.result() == "the first"
    assert is_bare(one)


def test_a_result_that_is_no_pickle_fails_its_own_future(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        one = executor.submit(abs, -1)
        other = RemoteFuture(one._sink)  # type: ignore[attr-defined]
        resolve([other], bytes(1), [b"no pickle"])
        with pytest.raises(ResultError, match="does not load here"):
            other.result()


def test_is_a_future_for_those_who_look_at_the_class() -> None:
    assert isinstance(future(), concurrent.futures.Future)


def test_raises_with_the_remote_traceback() -> None:
    one = future()
    fail(one, KeyError("gone"))
    with pytest.raises(KeyError, match="gone") as caught:
        one.result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert one.exception() is caught.value


def test_a_result_that_does_not_load_fails_its_own_future_alone() -> None:
    bad, good = future(), future()
    resolve([bad, good], bytes(2), [pickled.dumps(Unloadable()), pickled.dumps(2)])
    with pytest.raises(ResultError, match="ValueError"):
        bad.result()
    assert good.result() == 2


@pytest.mark.parametrize("touched", [False, True])
def test_wait_and_as_completed(touched: bool) -> None:
    futures = [future() for _ in range(5)]
    if touched:
        for one in futures:
            assert not one.running()
    assert not concurrent.futures.wait(futures, timeout=0).done
    end(*futures[:2])
    done, waiting = concurrent.futures.wait(futures, timeout=100, return_when=FIRST_COMPLETED)
    assert (done, waiting) == (set(futures[:2]), set(futures[2:]))
    threading.Thread(target=end, args=futures[2:4]).start()
    seen: set[Any] = set()
    for one_more in concurrent.futures.as_completed(futures, timeout=100):
        seen.add(one_more)
        if len(seen) == 4:
            end(futures[4])
    assert seen == set(futures)


def test_wait_for_the_first_exception() -> None:
    futures = [future() for _ in range(3)]
    threading.Thread(target=fail, args=(futures[1], ValueError())).start()
    done, _ = concurrent.futures.wait(futures, timeout=100, return_when=FIRST_EXCEPTION)
    assert done == {futures[1]}


def test_cancelled_futures_are_done_for_everybody() -> None:
    one, other = future(), future()
    called: list[Any] = []
    one.add_done_callback(called.append)
    waiter = threading.Timer(0, one.cancel)
    waiter.start()
    assert concurrent.futures.wait([one], timeout=100, return_when=ALL_COMPLETED).done == {one}
    waiter.join(100)
    assert one.cancelled()
    assert one.done()
    assert one.cancel()
    assert called == [one]
    with pytest.raises(concurrent.futures.CancelledError):
        one.result()
    with pytest.raises(concurrent.futures.CancelledError):
        one.exception()
    end(one)
    assert one.cancelled(), "a late result is dropped"
    end(other)
    assert not other.cancel()
    assert not other.cancelled()


def test_times_out() -> None:
    with pytest.raises(TimeoutError):
        future().result(timeout=0)
    with pytest.raises(concurrent.futures.TimeoutError):
        future().exception(timeout=0.001)


def test_callbacks_run_in_order_and_at_once_when_late(caplog: pytest.LogCaptureFixture) -> None:
    one = future()
    order: list[str] = []
    one.add_done_callback(lambda _: order.append("first"))
    one.add_done_callback(lambda _: 1 / 0)
    one.add_done_callback(lambda _: order.append("second"))
    end(one)
    one.add_done_callback(lambda _: order.append("late"))
    assert order == ["first", "second", "late"]
    assert "ZeroDivisionError" in caplog.text


def test_many_threads_wait_for_one_result() -> None:
    one = future()
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(one.result(100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    end(one, value={"a": 1})
    for thread in threads:
        thread.join(100)
    assert results == [{"a": 1}] * 8
    assert len(set(map(id, results))) == 1, "loaded once"


def test_loading_and_waiting_race_without_a_lost_wakeup() -> None:
    for _ in range(300):
        one = future()
        ready = threading.Barrier(2)

        def wait(one: RemoteFuture = one, ready: threading.Barrier = ready) -> None:
            ready.wait(100)
            assert one.result(100) == 1

        thread = threading.Thread(target=wait)
        thread.start()
        ready.wait(100)
        end(one)
        thread.join(100)
        assert not thread.is_alive()


def test_asyncio(broker: FakeBroker) -> None:
    async def main(executor: Executor) -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = [asyncio.wrap_future(executor.submit(abs, -n)) for n in range(20)]
        one = await loop.run_in_executor(executor, pow, 2, 5)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        return [*await asyncio.gather(*wrapped), one]

    with Executor(address=broker.address) as executor:
        assert asyncio.run(main(executor)) == [*range(20), 32]


def test_what_asyncio_of_python_3_14_asks_for_is_unpickled() -> None:
    """It no longer calls `result` and `exception`."""
    pending, ended, failed, cancelled = (future() for _ in range(4))
    end(ended, value=[7])
    fail(failed, ValueError("seven"))
    cancelled.cancel()
    assert pending._get_snapshot() == (False, False, None, None)
    assert ended._get_snapshot() == (True, False, [7], None)
    done, stopped, value, error = failed._get_snapshot()
    assert (done, stopped, value) == (True, False, None)
    assert isinstance(error, ValueError)
    assert cancelled._get_snapshot() == (True, True, None, None)


def test_cancelling_from_asyncio_reaches_the_broker(broker: FakeBroker) -> None:
    broker.holding = True

    async def main(executor: Executor) -> None:
        remote = executor.submit(abs, -1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(remote), 0.05)
        assert remote.cancelled()

    with Executor(address=broker.address) as executor:
        asyncio.run(main(executor))
    assert not any(session.waiting for session in broker.sessions.values())
    assert broker.runs == {}


def test_a_callback_that_waits_is_told_not_to(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        first, second = executor.submit(abs, -1), executor.submit(abs, -2)
        heard: list[BaseException] = []
        told = threading.Event()

        def wait(_: object) -> None:
            try:
                second.result(100)
            except RuntimeError as error:
                heard.append(error)
            told.set()

        first.add_done_callback(wait)
        broker.release()
        assert told.wait(100)
        assert "cannot wait" in str(heard[0])


def test_repr_needs_no_result() -> None:
    one = future()
    assert "pending" in repr(one)
    end(one)
    assert "finished" in repr(one)


def test_a_lock_that_is_never_released_and_no_thread_end_nothing_but_what_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_HELD_SECONDS", 0.01)
    monkeypatch.setattr(module, "_held_until", 0.0)
    one = future()
    taken = threading.Thread(target=one._condition.acquire)
    taken.start()
    taken.join()
    with no_thread_left():
        end(one, value=7)
    assert one.result() == 7


def test_of_many_locks_that_are_held_only_the_first_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_held_until", 0.0)
    waits: list[float] = []

    class Held:
        def acquire(self, timeout: float) -> bool:
            waits.append(timeout)
            return False

    threads: list[threading.Thread] = []

    def start(thread: threading.Thread) -> bool:
        threads.append(thread)
        return True

    monkeypatch.setattr(thread_start, "start", start)
    held = [future() for _ in range(20)]
    for one in held:
        monkeypatch.setattr(one, "_condition", Held())
        one._complete = True
    free = future()
    resolve([*held, free], bytes(21), [pickled.dumps(7)] * 21)
    assert waits == [module._HELD_SECONDS, *[0.0] * 19]
    assert len(threads) == 20
    assert free.result() == 7
