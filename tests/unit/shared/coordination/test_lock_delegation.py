"""A lock that one process takes again and again is delegated to it, and called back for another."""

from __future__ import annotations

from itertools import count
from typing import Any

from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import Answer, Asked, Op

A, B = b"A" * 16, b"B" * 16
FOR_EVER = (True, None, 7, 1)


class Lock:
    """A lock, and requests of members, numbered."""

    def __init__(self) -> None:
        self.rules = LockRules()
        self.numbers = count(1)
        #: What was called back.
        self.recalled: list[Op] = []

    def ask(self, member: bytes, operation: Operation, *arguments: Any) -> tuple[Op, list[Answer]]:
        op = member, next(self.numbers)
        return op, self.step(self.rules.request(Asked(op, operation, arguments), 0.0))

    def step(self, answers: list[Answer]) -> list[Answer]:
        if self.rules.recall is not None:
            self.recalled.append(self.rules.recall)
            self.rules.recall = None
        self.rules.validate()
        return answers

    def delegated(self) -> Op:
        """Let A take it until it is delegated; return the request that has it."""
        for _ in range(300):
            op, answers = self.ask(A, Operation.DELEGATE, *FOR_EVER)
            if answers[0].arguments == (False, True):
                assert self.rules.delegated
                return op
            self.ask(A, Operation.RELEASE)
        raise AssertionError("it is never delegated")


def test_it_is_delegated_to_a_process_that_takes_it_often_and_has_words() -> None:
    lock = Lock()
    for _ in range(10):
        _, answers = lock.ask(A, Operation.DELEGATE, True, None, 7, 0)
        assert answers[0].arguments == (False,)
        lock.ask(A, Operation.RELEASE)
    assert lock.delegated() == lock.rules.holder


def test_a_request_of_another_has_it_called_back_once_and_waits() -> None:
    lock = Lock()
    op = lock.delegated()
    waits, answers = lock.ask(B, Operation.ACQUIRE, True, None, 1)
    lock.ask(B, Operation.ACQUIRE, True, None, 2)
    assert answers == []
    assert lock.recalled == [op]
    assert [one.op for one in lock.step(lock.rules.returned(op, 0, held=False))] == [waits]
    assert not lock.rules.delegated
    # It was returned already: nothing is released twice.
    assert lock.step(lock.rules.returned(op, 0, held=False)) == []
    assert lock.ask(A, Operation.RETURN, op[1])[1][0].outcome is Outcome.OK
    assert lock.rules.holder == waits


def test_one_that_is_held_stays_so_until_its_holder_returns_it() -> None:
    lock = Lock()
    op = lock.delegated()
    waits, _ = lock.ask(B, Operation.ACQUIRE, True, None, 1)
    assert lock.step(lock.rules.returned(op, 9, held=True)) == []
    assert (lock.rules.holder, lock.rules.thread) == (op, 9)
    _, answers = lock.ask(A, Operation.RETURN, op[1])
    assert [one.op for one in answers[1:]] == [waits]


def test_what_must_know_whether_it_is_free_asks_again() -> None:
    for operation, arguments in (
        (Operation.ACQUIRE, (False, None, 1)),
        (Operation.ACQUIRE, (True, 0.0, 1)),
        (Operation.DELEGATE, (False, None, 1, 1)),
        (Operation.RELEASE, ()),
        (Operation.VALUE, ()),
    ):
        lock = Lock()
        op = lock.delegated()
        _, answers = lock.ask(B, operation, *arguments)
        assert [one.outcome for one in answers] == [Outcome.AGAIN]
        assert (lock.recalled, lock.rules.holder) == ([op], op)


def test_each_recall_makes_the_next_delegation_rarer() -> None:
    lock, rounds = Lock(), []
    for _ in range(10):
        before = next(lock.numbers)
        op = lock.delegated()
        rounds.append((op[1] - before) // 2)
        lock.ask(B, Operation.VALUE)
        lock.step(lock.rules.returned(op, 0, held=False))
        lock.ask(B, Operation.ACQUIRE, True, None, 1)
        lock.ask(B, Operation.RELEASE)
    assert rounds == [3, 7, 15, 31, 63, 127, 255, 255, 255, 255]


def test_a_sleeper_releases_it_and_a_woken_one_calls_it_back() -> None:
    lock = Lock()
    op = lock.delegated()
    _, answers = lock.ask(A, Operation.SLEEP, op[1], b"c" * 16, None, 7)
    assert answers == []
    assert lock.rules.holder is None
    op = lock.delegated() if not lock.rules.sleepers else op
    assert not lock.rules.delegated


def test_the_death_of_its_holder_ends_the_delegation() -> None:
    lock = Lock()
    lock.delegated()
    lock.step(lock.rules.abandon())
    assert (lock.rules.holder, lock.rules.delegated, lock.rules.abandoned) == (None, False, True)


def test_it_is_in_the_log_and_is_called_back_again_where_the_way_was_lost() -> None:
    lock = Lock()
    op = lock.delegated()
    lock.ask(B, Operation.VALUE)
    assert lock.step(lock.rules.call_again()) == []
    assert lock.recalled == [op, op]
    again = Lock()
    again.rules.restore(lock.rules.state(), {})
    assert again.rules.delegated
    # No request wants it any more.
    again.step(again.rules.call_again())
    assert again.recalled == []
