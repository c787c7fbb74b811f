"""What exceptions between any two bytecodes of a caller leave behind: a session that lives."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import manyhands
from harness.interruptions import Interrupter, Interruption, interrupt, rest, untraced
from harness.processes import Gate, eventually, wait_at
from manyhands._io import inline, spin
from manyhands._results import futures
from manyhands._submit import arguments
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message, ResultGroup, Results

BOUND = 100.0
# Python 3.11 does not run a traced thread, as under `make coverage`, while an exception is pending for
# another one that sleeps. So that one sleeps for a moment only.
_STANDS_STILL = sys.gettrace() is not None and sys.version_info < (3, 12)
THROWN_INTO = 0.1 if _STANDS_STILL else BOUND
UNANSWERED = (TimeoutError,) if _STANDS_STILL else ()


@pytest.fixture
def executor() -> Iterator[manyhands.Executor]:
    before = signal.signal(signal.SIGUSR2, interrupt)  # so that it counts as a handler's exception
    with manyhands.Executor(1) as made:
        made.submit(abs, -1).result(BOUND)
        yield made
    signal.signal(signal.SIGUSR2, before)


def still_works(executor: manyhands.Executor, where: str) -> None:
    """Calls alone, and several at once, give what they should, in time."""
    assert executor.submit(abs, -7).result(BOUND) == 7, where
    futures = [executor.submit(abs, -n) for n in range(5)]
    assert [future.result(BOUND) for future in futures] == list(range(5)), where


def lone_call(executor: manyhands.Executor) -> Callable[[], Any]:
    return lambda: executor.submit(abs, -3).result(BOUND)


def strike_everywhere(
    executor: manyhands.Executor,
    interrupter: Interrupter,
    call: Callable[[], Any],
    *,
    raises: bool = True,
) -> int:
    """Strike once at each place of the call; how many there are. What is raised there comes out."""
    at, misses = 0, 0
    while misses < 3:  # how many places there are depends a little on who is quicker
        at += 1
        rest(executor)
        try:
            assert interrupter.run(call, at) == 3, interrupter.place
            swallowed = raises and interrupter.place
        except Interruption:
            swallowed = ""
        assert not swallowed
        misses = 0 if interrupter.place else misses + 1
        still_works(executor, f"place {at}, {interrupter.place}")
    return at - misses


def test_an_exception_at_any_place_of_a_lone_call(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin.Spinner, "worth_it", lambda watch: watch._can)
    monkeypatch.setattr(spin, "SPIN_SECONDS", 0.02)
    assert strike_everywhere(executor, Interrupter(interrupt), lone_call(executor)) > 100


def test_an_exception_at_any_place_of_a_call_that_sleeps(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin.Spinner, "worth_it", lambda _: False)
    assert strike_everywhere(executor, Interrupter(interrupt), lone_call(executor)) > 100


def test_a_handler_that_calls_at_any_place_of_a_lone_call(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin.Spinner, "worth_it", lambda watch: watch._can)
    monkeypatch.setattr(spin, "SPIN_SECONDS", 0.02)
    monkeypatch.setattr(inline, "REVOKE_SECONDS", 0.02)

    def handle() -> None:
        assert executor.submit(abs, -5).result(BOUND) == 5

    calls = lone_call(executor)
    assert strike_everywhere(executor, Interrupter(handle), calls, raises=False) > 100


def test_a_handler_that_calls_at_any_place_of_a_first_call(executor: manyhands.Executor) -> None:
    class Item:
        pass

    def first_call() -> Any:
        Item.number = 1  # type: ignore[attr-defined]
        return executor.submit(lambda _: 3, Item()).result(BOUND)

    def handle() -> None:
        Item.number = 2  # type: ignore[attr-defined]
        assert executor.submit(lambda _: 5, Item()).result(BOUND) == 5

    interrupter = Interrupter(handle)
    first_call()
    at = 0
    while not at or interrupter.place:
        at += 7  # a few hundred places, and a handler that takes milliseconds
        rest(executor)
        assert interrupter.run(first_call, at) == 3, interrupter.place
    assert at > 300


def test_an_exception_at_any_place_of_a_first_call_comes_out(executor: manyhands.Executor) -> None:
    class Item:
        pass

    interrupter = Interrupter(interrupt)
    at, swallowed = 0, ""
    while not at or interrupter.place:
        at += 1
        rest(executor)
        Item.number = at  # type: ignore[attr-defined]
        try:
            assert executor.submit(len, [1]).result(BOUND) == 1
            interrupter.run(lambda: executor.submit(lambda _: 3, Item()).result(BOUND), at)
            swallowed = interrupter.place
        except Interruption:
            pass
        assert not swallowed
    assert at > 300


def test_two_exceptions_at_any_places(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin.Spinner, "worth_it", lambda watch: watch._can)
    monkeypatch.setattr(spin, "SPIN_SECONDS", 0.02)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(150):
        rest(executor)
        later = Interrupter(interrupt)
        with contextlib.suppress(Interruption):
            Interrupter(interrupt).run(lone_call(executor), rng.randrange(1, 300))
        with contextlib.suppress(Interruption):
            later.run(lone_call(executor), rng.randrange(1, 300))
        still_works(executor, f"seed {seed}, {later.place}")


class TooLong(Exception):
    """The time is up."""


class AlsoTooLong(TimeoutError):
    """The same, as many say it: an `OSError` too."""


def ring(_number: int, _frame: FrameType | None) -> None:
    raise TooLong


def ring_otherwise(_number: int, _frame: FrameType | None) -> None:
    raise AlsoTooLong


@contextlib.contextmanager
def handled(
    number: signal.Signals, handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Within a test: its own limit of time is a SIGALRM, whose handler is set when the test begins."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "handler"),
    [(signal.SIGALRM, ring_otherwise), (signal.SIGTERM, ring), (signal.SIGINT, ring)],
    ids=["SIGALRM", "SIGTERM", "SIGINT"],
)
def test_a_storm_of_signals(
    executor: manyhands.Executor,
    number: signal.Signals,
    handler: Callable[[int, FrameType | None], None],
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    with handled(number, handler):
        for round_ in range(60):
            timer = threading.Timer(rng.uniform(0, 0.01), os.kill, (os.getpid(), number))
            with untraced(), contextlib.suppress(TooLong, AlsoTooLong):
                try:
                    timer.start()
                    while True:
                        assert executor.submit(abs, -2).result(BOUND) == 2
                finally:
                    timer.join()
            still_works(executor, f"seed {seed}, round {round_}")


def test_exceptions_thrown_into_another_thread(executor: manyhands.Executor) -> None:
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    pause = threading.Event()
    for round_ in range(60):
        begun = threading.Event()
        thrown: list[bool] = []

        def work(begun: threading.Event = begun, thrown: list[bool] = thrown) -> None:
            with untraced(), contextlib.suppress(manyhands.SubmitError):
                try:
                    begun.set()
                    while True:
                        with contextlib.suppress(*UNANSWERED):
                            executor.submit(abs, -2).result(THROWN_INTO)
                except TooLong:
                    thrown.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(BOUND)
        pause.wait(rng.uniform(0.0005, 0.01))
        assert throw(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TooLong)) == 1
        thread.join(BOUND)
        assert not thread.is_alive(), f"seed {seed}, round {round_}"
        still_works(executor, f"seed {seed}, round {round_}")


def test_a_stack_that_is_used_up(executor: manyhands.Executor) -> None:
    def deeper(left: int) -> Any:
        return deeper(left - 1) if left else executor.submit(abs, -2).result(BOUND)

    depth = len(_stack())
    for left in range(80):
        rest(executor)
        with contextlib.suppress(RecursionError, manyhands.SubmitError):
            deeper(max(0, sys.getrecursionlimit() - depth - left))
        still_works(executor, f"{left} frames left")


def _stack() -> list[FrameType]:
    frame: FrameType | None = sys._getframe()
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def test_a_handler_that_ends_the_pool_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        pool.terminate()

    before = signal.signal(signal.SIGTERM, end)
    try:
        for round_ in range(5):
            pool = manyhands.Pool(1)
            pool.apply(abs, (-1,))
            timer = threading.Timer(0.005 * round_, os.kill, (os.getpid(), signal.SIGTERM))
            timer.start()
            began = time.monotonic()
            with contextlib.suppress(manyhands.ClusterClosed, ValueError):
                while True:
                    pool.apply_async(abs, (-2,)).get(BOUND)
            timer.join()
            assert time.monotonic() - began < BOUND
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_exception_while_a_message_is_decoded_comes_out(executor: manyhands.Executor) -> None:
    count = 9_000  # a header that is long enough to be looked through while it is unpacked
    group = ResultGroup("j" * 16, 1, list(range(count)), bytes(count), [b"0123456789"] * count, 0.1)
    frames = wire.encode(Results(1, [group]))
    link = executor._connection.io._connector.link
    assert link is not None
    interrupter = Interrupter(interrupt)
    garbage = link.garbage
    messages: list[Message] = []
    for at in range(1, 12):
        with pytest.raises(Interruption):
            interrupter.run(lambda: link._decode(frames, messages), at)
    assert (link.garbage, messages) == (garbage, [])


def test_what_is_interrupted_while_a_large_argument_is_kept_leaves_little(
    executor: manyhands.Executor,
) -> None:
    numbers = np.zeros(200_000)
    interrupter = Interrupter(interrupt)
    store = executor._connection.io.store
    arguments.pack((numbers,), {}, store)  # what is done once
    at = 0
    while not at or interrupter.place:
        at += 1
        numbers[0] = at
        with contextlib.suppress(Interruption):
            interrupter.run(lambda: arguments.pack((numbers,), {}, store), at)
    store._recent.clear()
    # Between the few steps of taking over a segment, something may be.
    eventually(lambda: len(store._segments) <= 3, what="little is lent")
    assert store._nbytes <= 3 * numbers.nbytes


def test_a_future_that_an_interrupted_wait_left_locked_holds_up_no_other(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(futures, "_HELD_SECONDS", 0.1)
    gate = Gate(tmp_path / "gate")
    locked = executor.submit(wait_at, gate.path)
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with locked._condition:
            is_held.set()
            may_go.wait(BOUND)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(BOUND)
    gate.open()
    others = [executor.submit(abs, -n) for n in range(5)]
    assert [future.result(BOUND) for future in others] == list(range(5))
    assert not locked.done()
    may_go.set()
    assert locked.result(BOUND) == "through"
    holder.join()
