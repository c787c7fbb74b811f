"""`Pool` beside `multiprocessing.pool`: the same calls on both give the same answers and errors."""

from __future__ import annotations

import gc
import multiprocessing
import operator
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker, client_threads
from harness.processes import eventually
from harness.threads import no_thread_left
from manyhands import Pool
from manyhands._results.imap import IMapIterator, feed
from manyhands_shared.errors import ClusterClosed, ConfigError, SubmitError
from manyhands_shared.payloads import pickled


@pytest.fixture
def pool(broker: FakeBroker) -> Iterator[Pool]:
    with Pool(2, address=broker.address) as ours:
        yield ours


@pytest.fixture
def theirs() -> Iterator[ThreadPool]:
    """`multiprocessing.Pool` with threads for processes: the same code but for the pickling."""
    with ThreadPool(2) as pool:
        yield pool


def fails_at(bad: int) -> Callable[[int], int]:
    def function(x: int) -> int:
        if x == bad:
            raise KeyError(bad)
        return x * x

    return function


def broken(length: int) -> Iterator[int]:
    yield from range(length)
    raise OSError("the input broke")


def outcome(call: Callable[[], Any]) -> Any:
    """What a call came to, in a form that can be compared."""
    try:
        value = call()
    except Exception as error:  # noqa: BLE001 - that is what is compared
        return type(error), error.args
    return list(value) if isinstance(value, Iterator) else value


def sorted_list(values: Any) -> list[Any]:
    return sorted(values)


CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda p: p.apply(pow, (2, 5)),
    "apply kwds": lambda p: p.apply(int, ("ff",), {"base": 16}),
    "apply fails": lambda p: p.apply(operator.truediv, (1, 0)),
    "apply list": lambda p: p.apply(pow, [2, 3]),
    "async": lambda p: p.apply_async(pow, (2, 5)).get(100),
    "async fails": lambda p: p.apply_async(int, ("x",)).get(100),
    "map": lambda p: p.map(fails_at(-1), range(100)),
    "map empty": lambda p: p.map(abs, []),
    "map one": lambda p: p.map(abs, [-1]),
    "map generator": lambda p: p.map(abs, (-n for n in range(7))),
    "map string": lambda p: p.map(str.upper, "abc"),
    "map dict": lambda p: p.map(str, {1: 2, 3: 4}),
    "map chunks": lambda p: p.map(fails_at(-1), range(10), 3),
    "map large chunk": lambda p: p.map(abs, range(10), chunksize=1000),
    "map fails": lambda p: p.map(fails_at(3), range(10)),
    "map broken input": lambda p: p.map(abs, broken(3)),
    "map not iterable": lambda p: p.map(abs, 3),
    "map_async": lambda p: p.map_async(abs, range(-5, 5)).get(100),
    "starmap": lambda p: p.starmap(pow, [(2, 3), (3, 2), [4, 1]]),
    "starmap chunks": lambda p: p.starmap(pow, [(n, 2) for n in range(10)], chunksize=4),
    "starmap fails": lambda p: p.starmap(operator.truediv, [(1, 1), (1, 0)]),
    "starmap bad row": lambda p: p.starmap(abs, [1, 2]),
    "starmap_async": lambda p: p.starmap_async(pow, [(2, 3)]).get(100),
    "imap": lambda p: list(p.imap(fails_at(-1), range(50))),
    "imap chunks": lambda p: list(p.imap(fails_at(-1), range(50), 7)),
    "imap empty": lambda p: list(p.imap(abs, [])),
    "imap fails": lambda p: list(p.imap(fails_at(3), range(10))),
    "imap bad chunk": lambda p: p.imap(abs, [1], 0),
    "imap broken input": lambda p: list(p.imap(abs, broken(3))),
    "imap unordered": lambda p: sorted(p.imap_unordered(fails_at(-1), range(50))),
    "imap unordered chunks": lambda p: sorted(p.imap_unordered(fails_at(-1), range(50), 7)),
    "imap unordered bad chunk": lambda p: p.imap_unordered(abs, [1], -1),
    "pickle": pickle.dumps,
    "join too early": operator.methodcaller("join"),
    "not ready": lambda p: p.map_async(abs, [1]).get(100),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_the_same_as_multiprocessing(
    pool: Pool, theirs: ThreadPool, call: Callable[[Any], Any]
) -> None:
    assert outcome(lambda: call(pool)) == outcome(lambda: call(theirs))


def walk(results: Any) -> list[Any]:
    """Every `next` of an iterator until it stops, errors and all."""
    seen: list[Any] = []
    while True:
        try:
            seen.append(results.next(timeout=100))
        except StopIteration:
            return seen
        except Exception as error:  # noqa: BLE001 - that is what is compared
            seen.append((type(error), error.args))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_imap_goes_on_behind_an_error(pool: Pool, theirs: ThreadPool, method: str) -> None:
    ours, their = (
        walk(getattr(one, method)(fails_at(2), iter(range(6)))) for one in (pool, theirs)
    )
    assert sorted(ours, key=repr) == sorted(their, key=repr)
    if method == "imap":
        assert ours == their


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_in_an_imap_what_cannot_be_sent_fails_alone(pool: Pool, method: str) -> None:
    bad = {0, 3, 4, 9}
    rows = [threading.Lock() if number in bad else -number for number in range(10)]
    seen = walk(getattr(pool, method)(abs, rows))
    values = [one if isinstance(one, int) else SubmitError in one[0].__mro__ for one in seen]
    wanted = [True if number in bad else number for number in range(10)]
    if method == "imap":
        assert values == wanted
    else:
        assert sorted(values, key=repr) == sorted(wanted, key=repr)


def test_an_imap_ends_with_the_error_of_its_input(pool: Pool, theirs: ThreadPool) -> None:
    assert walk(pool.imap(abs, broken(3))) == walk(theirs.imap(abs, broken(3)))


def test_an_imap_whose_input_exits_does_not_seem_whole(pool: Pool) -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise SystemExit("bad input")

    results = pool.imap(abs, rows())
    assert next(results) == 1
    with pytest.raises(SystemExit, match="bad input"):
        next(results)


def test_an_interrupted_close_can_be_repeated(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pool._calls, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.close()
    pool.close()
    pool._io.join(100)
    assert not pool._io._thread.is_alive()


def test_after_close_nothing_new_is_taken(pool: Pool, theirs: ThreadPool) -> None:
    for one in (pool, theirs):
        result = one.map_async(abs, range(10))
        one.close()
        one.close()
        for call in (
            lambda p: p.apply(abs, (1,)),
            lambda p: p.map(abs, [1]),
            lambda p: p.imap(abs, [1]),
            lambda p: p.imap_unordered(abs, [1]),
            lambda p: p.starmap_async(abs, [1]),
            lambda p: p.__enter__(),
        ):
            assert outcome(partial(call, one)) == (ValueError, ("Pool not running",))
        one.join()
        assert result.get(100) == list(range(10))


def test_leaving_the_context_terminates(pool: Pool, broker: FakeBroker) -> None:
    broker.holding = True
    with Pool(2, address=broker.address) as other:
        result = other.apply_async(abs, (-1,))
        mapped = other.map_async(abs, range(10))
        stream = other.imap(abs, range(10))
    other.join()
    for waiting in (result, mapped):
        with pytest.raises(ClusterClosed, match="terminated"):
            waiting.get(100)
    with pytest.raises(ClusterClosed, match="terminated"):
        next(stream)
    with pytest.raises(ValueError, match="Pool not running"):
        other.apply(abs, (1,))


def test_results_say_where_they_stand(pool: Pool, theirs: ThreadPool, broker: FakeBroker) -> None:
    broker.holding = True
    gate = threading.Event()
    results: list[tuple[Any, Any]] = [
        (pool.apply_async(abs, (-1,)), theirs.apply_async(gate.wait)),
        (pool.map_async(abs, [-1]), theirs.map_async(lambda _: gate.wait(), [1])),
    ]
    for pair in results:
        for result in pair:
            assert not result.ready()
            result.wait(0.001)
            with pytest.raises(ValueError, match="not ready"):
                result.successful()
            with pytest.raises(multiprocessing.TimeoutError):
                result.get(0.001)
    gate.set()
    broker.release()
    for pair in results:
        for result in pair:
            result.wait(100)
            assert result.ready()
            assert result.successful()


def test_failed_results_are_not_successful(pool: Pool, theirs: ThreadPool) -> None:
    for one in (pool, theirs):
        for result in (one.apply_async(int, ("x",)), one.map_async(int, ["x", "1"])):
            result.wait(100)
            assert not result.successful()


def kind_of(log: list[Any], error: BaseException) -> None:
    """Note what kind of error it is."""
    log.append(type(error))


def test_callbacks_have_run_when_the_result_is_ready(pool: Pool, theirs: ThreadPool) -> None:
    heard: dict[Any, list[Any]] = {}
    for one in (pool, theirs):
        log = heard[one] = []
        both: dict[str, Any] = {"callback": log.append, "error_callback": partial(kind_of, log)}
        one.apply_async(abs, (-1,), **both).wait(100)
        one.apply_async(int, ("x",), **both).wait(100)
        one.map_async(abs, [-1, -2], **both).wait(100)
        one.map_async(int, ["x"], **both).wait(100)
        one.starmap_async(pow, [(2, 3)], **both).wait(100)
        one.apply_async(abs, (-1,), error_callback=log.append).wait(100)
    assert heard[pool] == heard[theirs] == [1, ValueError, [1, 2], ValueError, [8]]


def test_a_callback_that_raises_costs_nothing_else(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(_: Any) -> None:
        raise RuntimeError("in the callback")

    assert pool.apply_async(abs, (-1,), callback=bad).get(100) == 1
    assert pool.map_async(abs, [-1], callback=bad).get(100) == [1]
    assert pool.apply(abs, (-2,)) == 2
    assert caplog.text.count("in the callback") >= 2


def test_what_cannot_be_pickled_is_raised_by_get(pool: Pool) -> None:
    lock = threading.Lock()
    result = pool.apply_async(abs, (lock,))
    mapped = pool.map_async(abs, [1, lock], chunksize=1)
    for failed in (result, mapped):
        with pytest.raises(SubmitError, match="cannot pickle") as caught:
            failed.get(100)
        assert isinstance(caught.value, TypeError)  # as pickle has raised it
    errors: list[Any] = []
    pool.apply_async(lambda: lock, error_callback=errors.append).wait(100)
    assert isinstance(errors[0], SubmitError)
    with pytest.raises(SubmitError):
        list(pool.imap(abs, [lock]))
    assert pool.apply(abs, (-1,)) == 1


def test_a_failed_map_still_runs_every_chunk(pool: Pool, broker: FakeBroker) -> None:
    with pytest.raises(KeyError):
        pool.map(fails_at(0), range(10), chunksize=1)
    assert len(broker.runs) == 10


def test_default_chunks_are_those_of_multiprocessing(pool: Pool, broker: FakeBroker) -> None:
    pool.map(abs, range(100))
    assert len(broker.runs) == 8
    broker.runs.clear()
    pool.map(abs, range(3))
    assert len(broker.runs) == 3


def test_imap_reads_a_bounded_number_ahead(pool: Pool) -> None:
    numbers = count()
    results = pool.imap(abs, numbers)
    assert next(results) == 0
    eventually(lambda: next(numbers) >= 4)
    pause = threading.Event()
    previous = -1
    while (now := next(numbers)) - previous > 1:  # until only we take from it
        previous = now
        pause.wait(0.02)
    assert now < 10_000
    taken = [next(results) for _ in range(3)]
    assert taken == sorted(taken)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_a_pool_that_closes_waits_for_no_consumer(
    pool: Pool, theirs: ThreadPool, method: str
) -> None:
    for one in (pool, theirs):
        results = getattr(one, method)(abs, range(-100, 0))
        one.close()
        one.join()
        assert sorted(results) == list(range(1, 101))


class Sized:
    """Says that it is of one length, and is of another."""

    def __init__(self, said: int, items: int) -> None:
        self._said = said
        self._items = items

    def __len__(self) -> int:
        return self._said

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._items))


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_length_that_is_not_true_harms_nothing(pool: Pool, chunksize: int) -> None:
    assert pool.map(abs, Sized(2, 5), chunksize) == [0, 1]
    assert pool.map(abs, Sized(5, 2), chunksize) == [0, 1]
    assert pool.map(abs, Sized(5, 0), chunksize) == []
    assert pool.apply(abs, (-7,)) == 7


def test_imap_reads_its_input_in_a_thread(pool: Pool, theirs: ThreadPool) -> None:
    """An input that depends on results that came before must not hang."""
    for one in (pool, theirs):
        last: list[int] = [1]
        known = threading.Semaphore(1)

        def chain(last: list[int] = last, known: threading.Semaphore = known) -> Iterator[int]:
            for _ in range(10):
                known.acquire()
                yield last[0]

        results = one.imap(lambda x: x * 2, chain())
        for value in results:
            last[0] = value
            known.release()
        assert last == [1024]


def test_an_error_of_an_imap_does_not_keep_it(pool: Pool) -> None:
    results = pool.imap(fails_at(1), range(100))
    assert next(results) == 0
    with pytest.raises(KeyError) as raised:
        next(results)
    is_gone = weakref.ref(results)
    del results
    # The I/O thread may be on its way out of the functions that brought the error.
    eventually(lambda: is_gone() is None)
    assert raised.value.args == (1,)


def test_an_abandoned_imap_stops_reading(broker: FakeBroker) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "manyhands-imap"]

    with Pool(2, address=broker.address) as pool:
        results = pool.imap(abs, count())
        next(results)
        del results
        gc.collect()
        eventually(lambda: not threads())
        pool.close()
        pool.join()


def test_close_lets_an_imap_finish(broker: FakeBroker) -> None:
    gate = threading.Event()

    def slowly() -> Iterator[int]:
        yield 1
        gate.wait(100)
        yield 2

    pool = Pool(2, address=broker.address)
    results = pool.imap(abs, slowly())
    pool.close()
    assert next(results) == 1
    gate.set()
    assert list(results) == [2]
    pool.join()


def test_imap_times_out(pool: Pool, broker: FakeBroker) -> None:
    broker.holding = True
    results: Any = pool.imap(abs, [-1])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.001)
    broker.release()
    assert results.next(timeout=100) == 1


def test_unordered_results_come_as_they_end(pool: Pool, broker: FakeBroker) -> None:
    broker.holding, broker.reversed = True, True
    results = pool.imap_unordered(abs, range(4))
    eventually(lambda: any(len(s.waiting) == 4 for s in broker.sessions.values()))
    broker.release()
    assert list(results) == [3, 2, 1, 0]


def test_initializer_and_tasks_per_child(broker: FakeBroker) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "def init(v):\n    global K\n    K = v\ndef f(x):\n    return K + x\n",
        space,
    )
    with Pool(1, space["init"], (10,), 5, address=broker.address) as pool:
        assert pool.map(space["f"], [1, 2]) == [11, 12]
        assert pool.apply(space["f"], (3,)) == 13
        assert list(pool.imap(space["f"], [4])) == [14]


def test_a_pool_that_was_not_closed_warns_and_is_cleaned_up(broker: FakeBroker) -> None:
    others = client_threads()
    pool = Pool(1, address=broker.address)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert any(issubclass(warning.category, ResourceWarning) for warning in caught)
    caught.clear()  # a warning holds on to what it warns of
    eventually(lambda: client_threads() <= others)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"initializer": 1}, TypeError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"maxtasksperchild": "x"}, ValueError),
        ({"priority": "x"}, ConfigError),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        Pool(address="tcp://127.0.0.1:1", **options)


def test_repr(pool: Pool) -> None:
    assert repr(pool) == "<manyhands.Pool state=RUN pool_size=2>"


def test_an_imap_that_is_cut_short_does_not_look_complete() -> None:
    results = IMapIterator(2, ordered=True)
    submitted: list[int] = []
    thread = feed(results.sink, range(10), submitted.append, lambda: None)
    eventually(lambda: len(submitted) == 2, what="it has read ahead")
    results.sink.fail(ClusterClosed("the pool was terminated"))
    thread.join(100)
    results.sink.deliver([0, 1], bytes(2), [pickled.dumps("a"), pickled.dumps("b")])
    assert [results.next(), results.next()] == ["a", "b"]
    with pytest.raises(ClusterClosed, match="terminated"):
        results.next(10)
    with pytest.raises(ClusterClosed, match="terminated"):
        list(results)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_a_pool_ends_behind_an_imap_that_got_no_thread(pool: Pool, method: str) -> None:
    with no_thread_left(), pytest.raises(OSError, match="the system gives no thread"):
        getattr(pool, method)(abs, [1])
    assert pool.apply(abs, (-1,)) == 1
    pool.close()
    pool.join()
