"""The checker of histories is itself checked."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Hashable, Sequence
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.linearizability import (
    Operation,
    Step,
    event,
    linearizable,
    lock,
    queue,
    queue_faults,
    semaphore,
)


def op(
    process: str,
    name: str,
    called: float,
    returned: float,
    result: Any = None,
    argument: Any = None,
) -> Operation:
    return Operation(process, name, argument, called, returned, result)


def by_trying_all(history: list[Operation], initial: Hashable, step: Step) -> bool:
    """Try every order of every choice of pending operations."""
    ended = [one for one in history if not one.pending]
    pending = [one for one in history if one.pending]
    for count in range(len(pending) + 1):
        for chosen in itertools.combinations(pending, count):
            for order in itertools.permutations([*ended, *chosen]):
                in_time = all(
                    later.returned >= earlier.called
                    for place, earlier in enumerate(order)
                    for later in order[place:]
                )
                if in_time and _runs(order, initial, step):
                    return True
    return False


def _runs(order: tuple[Operation, ...], initial: Hashable, step: Step) -> bool:
    states = {initial}
    for one in order:
        states = {after for state in states for after in step(state, one)}
    return bool(states)


def test_two_holders_are_found() -> None:
    first = op("A", "acquire", 0, 1, 0)
    second = op("B", "acquire", 2, 3, 0)
    assert not linearizable([first, second], ("", 0), lock)
    released = op("A", "release", 1, 2.5)
    assert linearizable([first, second, released], ("", 0), lock)
    # Released only after the second had the lock.
    assert not linearizable([first, second, op("A", "release", 4, 5)], ("", 0), lock)


def test_a_lock_of_the_dead_has_a_higher_fence() -> None:
    held = op("A", "acquire", 0, inf)
    dies = op("A", "die", 1, 2)
    assert linearizable([held, dies, op("B", "acquire", 0, 3, 2)], ("", 0), lock)
    # It may not have got the lock at all.
    assert linearizable([held, dies, op("B", "acquire", 0, 3, 0)], ("", 0), lock)
    assert not linearizable([held, dies, op("B", "acquire", 0, 3, 4)], ("", 0), lock)


def test_lost_doubled_and_overtaken_items_are_found() -> None:
    puts = [op("A", "put", 0, 1, argument=1), op("A", "put", 2, 3, argument=2)]
    empty: tuple[Any, ...] = ((), ())

    def judged(*gets: Operation) -> bool:
        return linearizable([*puts, *gets], empty, queue)

    assert judged(op("B", "get", 4, 5, 1), op("B", "get", 6, 7, 2))
    assert not judged(op("B", "get", 4, 5, 2))
    assert not judged(op("B", "get", 4, 5, 1), op("B", "get", 6, 7, 1))
    assert not judged(op("B", "get", 4, 5, None))
    assert judged(op("B", "get", 0.5, 5, None))
    # Handed to one that was killed: lost, or the first again.
    killed = op("C", "get", 3.5, inf), op("C", "die", 6, 7)
    assert judged(*killed, op("B", "get", 4, 5, 2), op("B", "get", 8, 9, 1))
    assert judged(*killed, op("B", "get", 4, 5, 2), op("B", "get", 8, 9, None))
    assert not judged(*killed, op("B", "get", 8, 9, None))


def test_events_and_semaphores() -> None:
    assert linearizable([op("A", "set", 0, 2), op("B", "look", 1, 3, False)], False, event)
    assert not linearizable([op("A", "set", 0, 1), op("B", "look", 2, 3, False)], False, event)
    taken = [op(name, "acquire", 0, 1, True) for name in "AB"]
    assert linearizable(taken, 2, semaphore)
    assert not linearizable(taken, 1, semaphore)


def any_history(data: st.DataObject, *, killed: bool) -> list[Operation]:
    history = []
    lengths = (0, 1, 3, inf) if killed else (0, 1, 3)
    for number in range(data.draw(st.integers(1, 5))):
        called = data.draw(st.integers(0, 6)) + number / 10
        name = data.draw(st.sampled_from(("put", "get", "die") if killed else ("put", "get")))
        length = data.draw(st.sampled_from(lengths))
        result = data.draw(st.sampled_from((None, 1, 2, 3))) if length < inf else None
        process, argument = data.draw(st.sampled_from("AB")), number + 1
        history.append(Operation(process, name, argument, called, called + length + 0.05, result))
    return history


@given(st.data())
def test_it_says_what_trying_all_orders_says(data: st.DataObject) -> None:
    history, initial = any_history(data, killed=True), ((), ())
    assert linearizable(history, initial, queue) == by_trying_all(history, initial, queue)


@settings(max_examples=300)
@given(st.data())
def test_the_faults_of_queues_are_those_that_trying_all_orders_finds(data: st.DataObject) -> None:
    history, initial = any_history(data, killed=False), ((), ())
    # What was put and not taken is no fault of the end of the history.
    assert bool(queue_faults(history)) != by_trying_all(history, initial, queue)


def run_of(count: int, step: Step, initial: Hashable, names: Sequence[str]) -> list[Operation]:
    """Return what eight processes may have done to an object, at the same time."""
    chance, state = random.Random(7), initial
    history: list[Operation] = []
    free, clock = [0.0] * 8, 0.0
    while len(history) < count:
        # It takes effect now; called before, it returns later.
        clock += chance.random()
        number = chance.randrange(8)
        if free[number] > clock:
            continue
        called, returned = max(free[number], clock - chance.random()), clock + chance.random() * 4
        result = chance.choice((True, False, 0))
        one = op(str(number), chance.choice(names), called, returned, result)
        after = list(step(state, one))
        if after:
            state = after[0]
            free[number] = returned + 0.001
            history.append(one)
    return history


@pytest.mark.parametrize(
    ("step", "initial", "names", "wrong"),
    [
        (lock, ("", 0), ("acquire", "release"), 2),
        (semaphore, 3, ("acquire", "release"), None),
        (event, False, ("set", "clear", "look"), 7),
    ],
    ids=["lock", "semaphore", "event"],
)
def test_ten_thousand_operations_are_judged_within_ten_seconds(
    step: Step, initial: Hashable, names: Sequence[str], wrong: object
) -> None:
    history = run_of(10_000, step, initial, names)
    began = time.process_time()
    assert linearizable(history, initial, step)
    if wrong is not None:
        end = max(one.returned for one in history) + 1
        name = "look" if step is event else "acquire"
        assert not linearizable([*history, op("x", name, end, end, wrong)], initial, step)
    assert time.process_time() - began < 10


def test_ten_thousand_operations_of_a_queue_are_judged_within_ten_seconds() -> None:
    chance, items, history, clock = random.Random(7), list[int](), list[Operation](), 0.0
    for number in range(1, 10_001):
        clock += chance.random()
        called, returned = clock - chance.random() * 4, clock + chance.random() * 4
        if chance.random() < 0.5 or len(items) > 20:
            result = items.pop(0) if items else None
            history.append(op("A", "get", called, returned, result))
        else:
            items.append(number)
            history.append(op("A", "put", called, returned, argument=number))
    began = time.process_time()
    assert queue_faults(history) == []
    for wrong in (1, items[-1], None):
        assert queue_faults([*history, op("x", "get", clock + 10, clock + 11, wrong)])
    assert time.process_time() - began < 10
