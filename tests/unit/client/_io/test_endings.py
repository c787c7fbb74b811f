"""What a caller, a callback or a fork must not do to other waits, and how they end."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker, client_threads
from harness.processes import eventually
from manyhands import Client, Executor, Pool
from manyhands._io import io_thread
from manyhands._results.futures import RemoteFuture, resolve
from manyhands._results.pool_results import ApplyResult
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol.messages import Query, Reply

BOUND = 100.0


def leave(*_: object) -> None:
    sys.exit(3)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


class Leaves:
    """Ends the process that unpickles it, unless the client stops that."""

    def __reduce__(self) -> tuple[object, ...]:
        return leave, ()


@pytest.mark.parametrize("callback", [leave, stop])
def test_a_callback_that_ends_its_thread_ends_no_session(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture, callback: Callable[..., Any]
) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(10)]
        futures[3].add_done_callback(callback)
        broker.release()
        assert [future.result(BOUND) for future in futures] == list(range(10))
        assert executor.submit(abs, -11).result(BOUND) == 11
    assert "a done-callback" in caplog.text


@pytest.mark.parametrize("callback", [leave, stop])
@pytest.mark.parametrize("method", ["apply_async", "map_async"])
def test_a_callback_of_a_pool_that_ends_its_thread_ends_no_session(
    broker: FakeBroker, callback: Callable[..., Any], method: str
) -> None:
    # Else the result may be there before its callback, which is then called here.
    broker.holding = True
    with Pool(address=broker.address) as pool:
        argument = ((-1,),) if method == "apply_async" else ([-1],)
        result = getattr(pool, method)(abs, *argument, callback=callback)
        broker.release()
        assert result.get(BOUND) == (1 if method == "apply_async" else [1])
        assert pool.apply(abs, (-2,)) == 2


def test_a_value_that_ends_the_thread_which_loads_it(broker: FakeBroker) -> None:
    with Pool(address=broker.address) as pool:
        results: list[Any] = [
            pool.apply_async(Leaves, callback=print),
            pool.map_async(_leaves, [1], callback=print),
        ]
        for result in results:
            result.wait(BOUND)
            with pytest.raises(SystemExit):
                result.get(BOUND)
        assert pool.apply(abs, (-2,)) == 2


def test_a_value_that_ends_its_thread_does_not_end_apply_async_when_it_comes_at_once() -> None:
    """The callback of a call whose result is there already runs in the caller's thread."""
    future = RemoteFuture(None)
    resolve([future], bytes(1), [pickled.dumps(Leaves())])
    result = ApplyResult(future, callback=print)
    assert result.ready()
    with pytest.raises(SystemExit):
        result.get(BOUND)


def _leaves(_: object) -> Leaves:
    return Leaves()


_stops: list[int] = []


def _stopped_once(value: int) -> int:
    _stops.append(value)
    if len(_stops) == 1:
        raise KeyboardInterrupt
    return value


class StoppedOnce:
    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        return _stopped_once, (self.value,)


def test_a_result_whose_loading_was_interrupted_is_loaded_by_the_next() -> None:
    _stops.clear()
    one = RemoteFuture(None)
    resolve([one], bytes(1), [pickled.dumps(StoppedOnce(42))])
    with pytest.raises(KeyboardInterrupt):
        one.result(BOUND)
    assert one.result(BOUND) == 42


_loading, _go_on = threading.Event(), threading.Event()


def _slow(value: int) -> int:
    _loading.set()
    _go_on.wait(BOUND)
    return value


class Slow:
    def __reduce__(self) -> tuple[object, ...]:
        return _slow, (7,)


def test_a_timeout_holds_while_another_thread_loads_the_result() -> None:
    _loading.clear()
    _go_on.clear()
    one = RemoteFuture(None)
    resolve([one], bytes(1), [pickled.dumps(Slow())])
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(one.result(BOUND)))
    thread.start()
    try:
        assert _loading.wait(BOUND)
        with pytest.raises(TimeoutError):
            one.result(0.05)
    finally:
        _go_on.set()
        thread.join(BOUND)
    assert results == [7]
    assert one.result(0) == 7


def waiting(broker: FakeBroker) -> int:
    """Tasks that the broker has, of all sessions."""
    return sum(len(session.waiting) for session in list(broker.sessions.values()))


def in_a_fork(call: Callable[[], str]) -> str:
    """What a call gives in a forked child, which has `BOUND` seconds for it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            signal.alarm(int(BOUND))
            try:
                os.write(writer, call().encode())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(pid, 0)
    return told or "nothing"


def error_of(call: Callable[[], Any]) -> str:
    try:
        return f"no error, but {call()!r}"
    except Exception as error:  # noqa: BLE001 - its name is what is asked for
        return type(error).__name__


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_was_pending_at_a_fork_fails_in_the_child(broker: FakeBroker) -> None:
    broker.holding = True
    called: list[int] = []
    with Pool(address=broker.address) as pool, Executor(address=broker.address) as executor:
        future, other = executor.submit(abs, -1), executor.submit(abs, -2)
        other.add_done_callback(lambda _: called.append(os.getpid()))
        waits = [
            lambda: future.result(100),
            lambda: other.result(100),
            pool.apply_async(abs, (-3,)).get,
            pool.apply_async(abs, (-3,), callback=print).get,
            pool.map_async(abs, [-4]).get,
            pool.imap(abs, [-5]).next,  # type: ignore[attr-defined]
        ]
        eventually(lambda: waiting(broker) == 6)

        def child() -> str:
            kinds = {error_of(wait) for wait in waits}
            done = wait([future, other], 5).done == {future, other}
            return f"{kinds} {done} {called}"

        assert in_a_fork(child) == "{'ClusterClosed'} True []"
        broker.release()
        assert (future.result(BOUND), other.result(BOUND)) == (1, 2)
        assert eventually(lambda: called) == [os.getpid()]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_results_keep_their_pool_until_they_are_there(broker: FakeBroker) -> None:
    others = client_threads()
    broker.holding = True

    def begin(method: str, *arguments: Any) -> Any:
        return getattr(Pool(address=broker.address), method)(abs, *arguments)

    begun = [
        begin("apply_async", (-1,)),
        begin("map_async", [-2]),
        begin("starmap_async", [(-3,)]),
        begin("imap", [-4]),
        begin("imap_unordered", [-5], 2),
    ]
    eventually(lambda: waiting(broker) == 5)
    gc.collect()
    broker.release()
    results = [part.get(BOUND) if hasattr(part, "get") else next(part) for part in begun]
    assert results == [1, [2], [3], 4, 5]
    assert [list(part) for part in begun[3:]] == [[], []]
    # No pool outlives its results, though these are still there.
    gc.collect()
    eventually(lambda: client_threads() <= others)


class Interrupted(Exception):
    pass


def _raise(*_: object) -> None:
    raise Interrupted


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    before = signal.signal(signal.SIGUSR1, _raise)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("method", ["apply", "map", "starmap"])
def test_an_interrupted_call_of_a_pool_is_cancelled(
    broker: FakeBroker, alarm: Callable[[], None], method: str
) -> None:
    broker.holding = True
    arguments = {"apply": ((-1,),), "map": ([-1, -2, -3],), "starmap": ([(-1,), (-2,), (-3,)],)}
    with Pool(address=broker.address) as pool:
        pool.apply_async(abs, (-9,))

        def interrupt() -> None:
            eventually(lambda: broker.most_waiting > 1)
            alarm()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(Interrupted):
            getattr(pool, method)(abs, *arguments[method])
        thread.join()
        eventually(lambda: [len(s.waiting) for s in broker.sessions.values()] == [1])


class Breaks:
    """An input that has a length and ends with an error."""

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[int]:
        yield from (-1, -2, -3)
        raise Interrupted


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_a_map_whose_input_raises_is_cancelled(broker: FakeBroker, kind: str) -> None:
    broker.holding = True
    made: Any = Pool(address=broker.address) if kind == "Pool" else Executor(address=broker.address)
    with made:
        with pytest.raises(Interrupted):
            made.map(abs, Breaks(), chunksize=1)
        eventually(lambda: broker.sessions)
        eventually(lambda: not any(s.waiting for s in broker.sessions.values()))


def test_a_timeout_of_a_handler_is_not_that_of_a_result(broker: FakeBroker) -> None:
    def ring(*_: object) -> None:
        raise TimeoutError("the user's own")

    before = signal.signal(signal.SIGALRM, ring)
    broker.holding = True
    try:
        with Pool(address=broker.address) as pool:
            result = pool.apply_async(abs, (-1,))
            with pytest.raises(TimeoutError, match="the user's own"):  # noqa: PT012 - rings in here
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                result.get(BOUND)
            with pytest.raises(multiprocessing.TimeoutError):
                result.get(0.01)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("before", [False, True], ids=["by the shutdown", "before"])
def test_a_shutdown_that_cancels_ends_without_the_broker(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(io_thread, "_FAREWELL_SECONDS", 0.2)
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(abs, -n) for n in range(5)]
    eventually(lambda: broker.most_waiting == 5)
    if before:
        assert all(future.cancel() for future in futures)
    broker.vanish()
    thread = threading.Thread(target=lambda: executor.shutdown(cancel_futures=not before))
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive()
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


def test_a_shutdown_that_was_interrupted_still_waits_the_next_time(broker: FakeBroker) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    broker.holding = True
    executor = Executor(address=broker.address)
    future = executor.submit(abs, -7)
    eventually(lambda: broker.most_waiting == 1)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Stop):
            executor.shutdown()
    finally:
        signal.signal(signal.SIGALRM, before)
    broker.holding = False
    executor.shutdown()
    assert future.done()
    assert future.result(0) == 7


def test_a_shutdown_waits_for_the_broker_as_long_as_something_is_wanted(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_thread, "_FAREWELL_SECONDS", 0.0)
    broker.holding = True
    executor = Executor(address=broker.address)
    futures = [executor.submit(abs, -n) for n in range(5)]
    eventually(lambda: broker.most_waiting == 5)
    futures[0].cancel()
    broker.vanish()
    executor.shutdown(wait=False)
    broker.holding = False
    broker.come_back()
    assert [future.result(BOUND) for future in futures[1:]] == [1, 2, 3, 4]


def test_a_cancellation_waits_for_the_word_of_the_broker(broker: FakeBroker) -> None:
    asked: list[Query] = []

    def answer(message: Any) -> Any:
        if isinstance(message, Query) and message.what == "cancel":
            asked.append(message)
            if len(asked) == 1:  # lost with the broker that was killed
                return []
            return [Reply(message.request, "", {"id": "a-job", "cancelled": True})]
        return None

    broker.answers = answer
    with Client(broker.address) as client:
        thread = threading.Thread(target=client.cancel, args=("a-job",))
        thread.start()
        eventually(lambda: len(asked) == 1)
        broker.vanish()
        assert thread.is_alive()
        broker.come_back()
        thread.join(BOUND)
        assert not thread.is_alive()
        assert len(asked) == 2


def test_a_cancellation_without_an_answer_says_so(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands.client._QUERY_SECONDS", 0.1)
    broker.answers = lambda message: [] if isinstance(message, Query) else None
    with (
        Client(broker.address) as client,
        pytest.raises(TimeoutError, match=r"a-job is cancelled\. Look"),
    ):
        client.cancel("a-job")


def test_a_wait_for_a_durable_job_outlasts_the_broker(broker: FakeBroker) -> None:
    states = iter(["running", "done"])
    away = threading.Event()

    def answer(message: Any) -> Any:
        if not isinstance(message, Query) or message.what != "job":
            return None
        state = next(states)
        if state == "done" and not away.is_set():
            away.set()
        return [Reply(message.request, "", {"state": state, "tasks": 1})]

    broker.answers = answer
    with Client(broker.address) as client:
        job = client.job("a-job")
        broker.loses = lambda message: isinstance(message, Query)
        assert not job.wait(0.1), "no word within the time"
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(job.wait()))
        thread.start()
        broker.vanish()
        broker.loses = lambda _: False
        broker.come_back()
        thread.join(BOUND)
        assert results == [True]


def test_a_session_whose_thread_fails_fails_what_waits(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    future = executor.submit(abs, -1)
    executor._connection.io.queue.command(leave)
    with pytest.raises(Exception, match="failed inside"):
        future.result(BOUND)
    with pytest.raises(Exception, match="failed inside"):
        executor.submit(abs, -1)
    executor.shutdown()
    assert "I/O thread failed" in caplog.text
