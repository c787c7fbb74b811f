"""A lock that processes take again and again is delegated to them, and called back for others."""

from __future__ import annotations

from itertools import count
from typing import Any

from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.coordination.rules.lock import SLICE_SECONDS, LockRules
from manyhands_shared.coordination.rules.model import Answer, Asked, Op

A, B = b"A" * 16, b"B" * 16
FOR_EVER = (True, None, 7, 1)


class Lock:
    """A lock, and requests of members, numbered."""

    def __init__(self) -> None:
        self.rules = LockRules()
        self.numbers = count(1)
        self.now = 0.0
        #: What was called back.
        self.recalled: list[Op] = []

    def ask(self, member: bytes, operation: Operation, *arguments: Any) -> tuple[Op, list[Answer]]:
        self.now += 0.01
        return self.ask_soon(member, operation, *arguments)

    def ask_soon(
        self, member: bytes, operation: Operation, *arguments: Any
    ) -> tuple[Op, list[Answer]]:
        """Ask as soon as the last request was made."""
        op = member, next(self.numbers)
        return op, self.step(self.rules.request(Asked(op, operation, arguments), self.now))

    def returned(self, op: Op, thread: int, *, held: bool) -> list[Answer]:
        """Have the holder's host say that a lock is not delegated any more."""
        return self.step(self.rules.returned(op, thread, self.now, held=held))

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
            if answers[0].arguments == (False, 0.0):
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
    assert [one.op for one in lock.returned(op, 0, held=False)] == [waits]
    assert not lock.rules.delegated
    # It was returned already: nothing is released twice.
    assert lock.returned(op, 0, held=False) == []
    assert lock.ask(A, Operation.RETURN, op[1])[1][0].outcome is Outcome.OK
    assert lock.rules.holder == waits


def test_one_that_is_held_stays_so_until_its_holder_returns_it() -> None:
    lock = Lock()
    op = lock.delegated()
    waits, _ = lock.ask(B, Operation.ACQUIRE, True, None, 1)
    assert lock.returned(op, 9, held=True) == []
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
        lock.returned(op, 0, held=False)
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


def fight(lock: Lock, rounds: int) -> list[Answer]:
    """Let A and B take the lock in turn, each again as soon as it has released it."""
    lock.ask_soon(A, Operation.DELEGATE, *FOR_EVER)
    lock.ask_soon(B, Operation.DELEGATE, *FOR_EVER)
    found: list[Answer] = []
    for _ in range(rounds):
        holder = lock.rules.holder
        assert holder is not None
        if lock.rules.delegated:
            _, answers = lock.ask_soon(holder[0], Operation.RETURN, holder[1])
            found += answers[1:]
        else:
            _, answers = lock.ask_soon(holder[0], Operation.RELEASE)
            found += answers[1:]
        lock.ask_soon(holder[0], Operation.DELEGATE, *FOR_EVER)
    return found


def test_processes_that_fight_for_it_get_it_in_slices_of_time() -> None:
    lock = Lock()
    given = fight(lock, 20)
    assert [one.op[0] for one in given] == [B, A] * 10
    assert [one.arguments for one in given[-4:]] == [(False, SLICE_SECONDS)] * 4
    # What waits is told at once that there is something to call back; the host knows when that is due.
    assert lock.recalled[-2:] == [one.op for one in given[-2:]]
    # Who fights does not make a lock that one process uses alone rarer.
    assert lock.rules._enough == 4


def test_a_process_that_does_something_else_in_between_gets_no_slice() -> None:
    lock = Lock()
    fight(lock, 20)
    holder = lock.rules.holder
    for _ in range(4):
        assert holder is not None
        lock.ask(holder[0], Operation.RETURN, holder[1])
        lock.ask(holder[0], Operation.RELEASE)
        lock.ask(holder[0], Operation.DELEGATE, *FOR_EVER)
        holder = lock.rules.holder
    assert not lock.rules.delegated
    _, answers = lock.ask(A, Operation.VALUE)
    assert answers[0].outcome is Outcome.OK


def test_what_it_knows_of_processes_is_bounded() -> None:
    lock = Lock()
    for number in range(1000):
        lock.ask(number.to_bytes(16, "big"), Operation.DELEGATE, *FOR_EVER)
        lock.ask(number.to_bytes(16, "big"), Operation.RELEASE)
    assert len(lock.rules._released_at) <= 256


def test_a_slot_waits_with_its_request_in_the_log() -> None:
    lock = Lock()
    lock.ask(A, Operation.DELEGATE, *FOR_EVER)
    waits, _ = lock.ask(B, Operation.DELEGATE, *FOR_EVER)
    again = Lock()
    waiting = lock.rules.waiting()
    again.rules.restore(lock.rules.state(), waiting)
    assert waiting[waits].detail == (7, 1)
    _, answers = again.ask(A, Operation.RELEASE)
    assert [one.op for one in answers[1:]] == [waits]
