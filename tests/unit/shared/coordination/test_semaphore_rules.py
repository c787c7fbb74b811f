"""The rules of a semaphore."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from harness.worlds.sync_object import MEMBERS, Stage, StageMachine
from manyhands_shared.coordination.kinds import MAX_VALUE, Operation, Outcome
from manyhands_shared.coordination.rules.model import Op
from manyhands_shared.coordination.rules.semaphore import SemaphoreRules

A, B, C = MEMBERS


def acquire(stage: Stage, member: bytes, *, block: bool = True, seconds: float | None = None) -> Op:
    return stage.ask(member, Operation.ACQUIRE, block, seconds, 0)


def value_of(stage: Stage) -> int:
    return int(stage.answers[stage.ask(A, Operation.VALUE)].arguments[0])


def test_tokens_are_handed_out_in_order_of_asking() -> None:
    stage = Stage(SemaphoreRules(1, MAX_VALUE))
    first, second, third = (acquire(stage, member) for member in MEMBERS)
    assert stage.outcome(first) is Outcome.OK
    stage.ask(C, Operation.RELEASE)
    assert stage.outcome(second) is Outcome.OK
    assert stage.outcome(third) is None
    assert value_of(stage) == 0


def test_a_bounded_semaphore_takes_no_more_than_it_gave() -> None:
    stage = Stage(SemaphoreRules(1, 1))
    assert stage.outcome(stage.ask(A, Operation.RELEASE)) is Outcome.TOO_MANY
    acquire(stage, A)
    assert stage.outcome(stage.ask(B, Operation.RELEASE)) is Outcome.OK


def test_tokens_of_the_dead_stay_taken_and_those_of_who_gave_up_come_back() -> None:
    stage = Stage(SemaphoreRules(2, MAX_VALUE))
    acquire(stage, A)
    taken = acquire(stage, B)
    stage.die(A)
    assert value_of(stage) == 0
    waits = acquire(stage, C)
    stage.give_up(taken)
    assert stage.outcome(waits) is Outcome.OK


def test_a_release_that_is_given_up_has_been_done_all_the_same() -> None:
    stage = Stage(SemaphoreRules(1, 3))
    stage.give_up(stage.ask(A, Operation.RELEASE))
    assert value_of(stage) == 2


class Semaphores(StageMachine):
    """Any sequence: tokens are neither made nor lost."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(SemaphoreRules(2, 3))
        self.tokens = 2

    @rule(member=st.sampled_from(MEMBERS), block=st.booleans(), timed=st.booleans())
    def acquire(self, member: bytes, block: bool, timed: bool) -> None:
        there = value_of(self.stage)
        op = acquire(self.stage, member, block=block, seconds=2.0 if timed else None)
        expected = Outcome.OK if there else None if block else Outcome.NO
        assert self.stage.outcome(op) is expected

    @rule(member=st.sampled_from(MEMBERS))
    def release(self, member: bytes) -> None:
        full = value_of(self.stage) == 3
        op = self.stage.ask(member, Operation.RELEASE)
        assert self.stage.outcome(op) is (Outcome.TOO_MANY if full else Outcome.OK)
        self.tokens += not full

    @rule(member=st.sampled_from(MEMBERS))
    def give_up(self, member: bytes) -> None:
        """Undo the first wait of a member, as its broker does."""
        for op in self.stage.object.waiting():
            if op[0] == member:
                self.stage.give_up(op)
                return

    @invariant()
    def no_token_is_lost(self) -> None:
        """Given out, or there: as many as were put in."""
        granted = [one for one in self.stage.order if one.arguments == ("token",)]
        assert len(granted) + value_of(self.stage) == self.tokens


TestSemaphores = Semaphores.TestCase
