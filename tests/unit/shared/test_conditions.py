"""Conditions and latches, and what an exception between any two bytecodes of theirs leaves behind."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from harness.interruptions import Interrupter, Interruption, interrupt
from harness.processes import eventually
from manyhands_shared.conditions import Condition, Latch

BOUND = 100.0


def waits_in_thread(condition: Condition, told: list[bool]) -> threading.Thread:
    def wait() -> None:
        with condition.lock:
            told.append(condition.wait(BOUND))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def have_come(condition: Condition, count: int) -> bool:
    return len(condition._waiters) == count


def notify(condition: Condition) -> None:
    with condition.lock:
        condition.notify_all()


def is_free(condition: Condition) -> bool:
    """Whether another thread can have the lock."""
    got: list[bool] = []

    def take() -> None:
        got.append(condition.lock.acquire(timeout=BOUND))
        if got == [True]:
            condition.lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got == [True]


def test_all_that_wait_are_woken_and_time_may_be_over_before() -> None:
    condition = Condition()
    with condition.lock:
        assert not condition.wait(0.0)
        assert not condition.wait_for(lambda: False, 0.0)
        assert condition.wait_for(lambda: True)
    told: list[bool] = []
    threads = [waits_in_thread(condition, told) for _ in range(3)]
    eventually(partial(have_come, condition, 3))
    with condition.lock, condition.lock:
        condition.notify_all()
    for thread in threads:
        thread.join(BOUND)
    assert told == [True] * 3


def test_one_that_has_the_lock_twice_lets_go_of_it_wholly() -> None:
    condition = Condition()
    with condition.lock, condition.lock:
        thread = threading.Thread(target=notify, args=(condition,))
        thread.start()
        assert condition.wait(BOUND)
    thread.join(BOUND)


@pytest.mark.parametrize("timeout", [0.0, 0.001, None])
def test_an_exception_at_any_place_of_a_wait_leaves_the_lock_free(timeout: float | None) -> None:
    condition = Condition()
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.001):
            notify(condition)

    def wait() -> None:
        with condition.lock:
            condition.wait_for(lambda: True if seen else seen.append(1), timeout)

    notifier = threading.Thread(target=go_on)
    notifier.start()
    interrupter, at = Interrupter(interrupt), 0
    try:
        while not at or interrupter.place:
            at += 1
            seen: list[int] = []
            try:
                interrupter.run(wait, at)
            except Interruption:
                assert interrupter.place
            assert is_free(condition), interrupter.place
            assert not condition._waiters, interrupter.place
    finally:
        ended.set()
        notifier.join(BOUND)
    assert at > 3


def test_an_exception_at_any_place_of_a_notification_harms_no_later_one() -> None:
    interrupter, at = Interrupter(interrupt), 0
    while not at or interrupter.place:
        at += 1
        condition, told = Condition(), list[bool]()
        threads = [waits_in_thread(condition, told) for _ in range(2)]
        eventually(partial(have_come, condition, 2))
        try:
            interrupter.run(partial(notify, condition), at)
        except Interruption:
            notify(condition)
        for thread in threads:
            thread.join(BOUND)
        assert told == [True, True], interrupter.place
    assert at > 3


def test_a_latch_stays_set() -> None:
    latch = Latch()
    assert not latch.wait(0.0)
    thread = threading.Thread(target=latch.set)
    thread.start()
    assert latch.wait(BOUND)
    assert latch.wait(0.0)
    thread.join(BOUND)
