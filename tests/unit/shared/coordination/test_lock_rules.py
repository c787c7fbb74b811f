"""The rules of a lock and its conditions."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from harness.worlds.sync_object import MEMBERS, Stage, StageMachine
from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import Op

A, B, C = MEMBERS
CONDITION, OTHER = b"c" * 16, b"d" * 16


def lock_of(stage: Stage) -> LockRules:
    assert isinstance(stage.object, LockRules)
    return stage.object


def acquire(stage: Stage, member: bytes, *, block: bool = True, seconds: float | None = None) -> Op:
    return stage.ask(member, Operation.ACQUIRE, block, seconds, 0)


def sleep(
    stage: Stage, ticket: Op, seconds: float | None = None, condition: bytes = CONDITION
) -> Op:
    return stage.ask(ticket[0], Operation.SLEEP, ticket[1], condition, seconds, 0)


def test_a_lock_is_passed_on_in_order_of_asking() -> None:
    stage = Stage(LockRules())
    asked = [acquire(stage, member) for member in (A, B, C)]
    assert [stage.outcome(op) for op in asked] == [Outcome.OK, None, None]
    stage.ask(A, Operation.RELEASE)
    assert lock_of(stage).holder == asked[1]
    # Anybody may release it.
    stage.ask(A, Operation.RELEASE)
    assert lock_of(stage).holder == asked[2]


def test_who_does_not_want_to_wait_is_told() -> None:
    stage = Stage(LockRules())
    acquire(stage, A)
    assert stage.outcome(acquire(stage, B, block=False)) is Outcome.NO
    waits = acquire(stage, B, seconds=1.0)
    stage.advance(1.0)
    assert stage.outcome(waits) is Outcome.NO


def test_a_lock_that_is_free_cannot_be_released() -> None:
    stage = Stage(LockRules())
    assert stage.outcome(stage.ask(A, Operation.RELEASE)) is Outcome.TOO_MANY


def test_the_lock_of_a_dead_holder_is_passed_on_and_that_is_told_until_its_release() -> None:
    stage = Stage(LockRules())
    acquire(stage, A)
    second = acquire(stage, B)
    stage.die(A)
    assert stage.answers[second].arguments == (True,)
    assert lock_of(stage).epoch == 2
    stage.ask(B, Operation.RELEASE)
    third = acquire(stage, C)
    assert stage.answers[third].arguments == (False,)
    assert lock_of(stage).epoch == 2


def test_a_lock_granted_to_one_that_gave_up_is_passed_on() -> None:
    stage = Stage(LockRules())
    first, second = acquire(stage, A), acquire(stage, B)
    stage.give_up(first)
    assert lock_of(stage).holder == second
    # Undone once; a second time does nothing to the next holder.
    stage.give_up(first)
    assert lock_of(stage).holder == second


def test_a_sleeper_is_woken_behind_those_who_wait_for_the_lock() -> None:
    stage = Stage(LockRules())
    slept = sleep(stage, acquire(stage, A))
    acquire(stage, B)
    third = acquire(stage, C)
    notify = stage.ask(B, Operation.NOTIFY, CONDITION, 1)
    assert stage.answers[notify].arguments == (1,)
    assert stage.outcome(slept) is None
    stage.ask(B, Operation.RELEASE)
    assert lock_of(stage).holder == third
    stage.ask(C, Operation.RELEASE)
    assert lock_of(stage).holder == slept
    assert stage.outcome(slept) is Outcome.OK


def test_a_sleeper_whose_time_is_over_has_the_lock_when_it_is_told() -> None:
    stage = Stage(LockRules())
    slept = sleep(stage, acquire(stage, A), 1.0)
    acquire(stage, B)
    stage.advance(2.0)
    assert stage.outcome(slept) is None
    stage.ask(B, Operation.RELEASE)
    assert stage.outcome(slept) is Outcome.NO
    assert lock_of(stage).holder == slept


def test_notify_wakes_the_first_sleepers_of_its_condition() -> None:
    stage = Stage(LockRules())
    first = sleep(stage, acquire(stage, A))
    other = sleep(stage, acquire(stage, A), condition=OTHER)
    second = sleep(stage, acquire(stage, B))
    acquire(stage, C)
    stage.ask(C, Operation.NOTIFY, CONDITION, 1)
    stage.ask(C, Operation.RELEASE)
    assert lock_of(stage).holder == first
    assert stage.outcome(other) is stage.outcome(second) is None
    stage.ask(A, Operation.NOTIFY, CONDITION, 0)
    stage.ask(A, Operation.RELEASE)
    assert lock_of(stage).holder == second


def test_a_dead_sleeper_takes_no_wake_up_with_it() -> None:
    stage = Stage(LockRules())
    sleep(stage, acquire(stage, A))
    second = sleep(stage, acquire(stage, B))
    stage.die(A)
    acquire(stage, C)
    stage.ask(C, Operation.NOTIFY, CONDITION, 1)
    stage.ask(C, Operation.RELEASE)
    assert lock_of(stage).holder == second


def test_only_the_holder_can_sleep() -> None:
    stage = Stage(LockRules())
    first = acquire(stage, A)
    stage.ask(A, Operation.RELEASE)
    acquire(stage, B)
    assert stage.outcome(sleep(stage, first)) is Outcome.TOO_MANY


class Locks(StageMachine):
    """Any sequence: at most one holder, no wait without an end, no wake-up lost."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(LockRules())
        self.epoch = 0
        self.asleep: dict[Op, None] = {}

    @rule(member=st.sampled_from(MEMBERS), block=st.booleans(), timed=st.booleans())
    def acquire(self, member: bytes, block: bool, timed: bool) -> None:
        free = lock_of(self.stage).holder is None
        op = acquire(self.stage, member, block=block, seconds=2.0 if timed else None)
        if free:
            assert lock_of(self.stage).holder == op
        elif not block:
            assert self.stage.outcome(op) is Outcome.NO

    @rule(member=st.sampled_from(MEMBERS))
    def release(self, member: bytes) -> None:
        lock = lock_of(self.stage)
        held, following = lock.holder, next(iter(lock.queue), None)
        op = self.stage.ask(member, Operation.RELEASE)
        assert self.stage.outcome(op) is (Outcome.OK if held else Outcome.TOO_MANY)
        assert lock_of(self.stage).holder == following

    @precondition(lambda self: lock_of(self.stage).holder is not None)
    @rule(timed=st.booleans(), condition=st.sampled_from((CONDITION, OTHER)))
    def sleep(self, timed: bool, condition: bytes) -> None:
        holder = lock_of(self.stage).holder
        assert holder is not None
        op = sleep(self.stage, holder, 3.0 if timed else None, condition)
        assert lock_of(self.stage).asleep(op)

    @rule(
        member=st.sampled_from(MEMBERS),
        count=st.integers(0, 2),
        condition=st.sampled_from((CONDITION, OTHER)),
    )
    def notify(self, member: bytes, count: int, condition: bytes) -> None:
        before = list(lock_of(self.stage).sleepers.get(condition, ()))
        op = self.stage.ask(member, Operation.NOTIFY, condition, count)
        woken = before[: count or len(before)]
        assert self.stage.answers[op].arguments == (len(woken),)
        lock = lock_of(self.stage)
        assert not any(lock.asleep(one) for one in woken)
        assert all(one in lock.queue or one == lock.holder for one in woken)

    @rule(member=st.sampled_from(MEMBERS))
    def die(self, member: bytes) -> None:
        lock = lock_of(self.stage)
        held = lock.holder is not None and lock.holder[0] == member
        self.stage.die(member)
        lock = lock_of(self.stage)
        assert lock.epoch == self.epoch + 2 * held
        assert lock.holder is None or lock.holder[0] != member
        self.epoch = lock.epoch

    @invariant()
    def at_most_one_was_told_that_it_holds_the_lock(self) -> None:
        lock = lock_of(self.stage)
        if lock.holder is not None:
            assert self.stage.outcome(lock.holder) in (Outcome.OK, Outcome.NO)

    def teardown(self) -> None:
        """Every wait has an end: once no member sleeps and each holder releases, none waits."""
        for condition in (CONDITION, OTHER):
            self.stage.ask(A, Operation.NOTIFY, condition, 0)
        while lock_of(self.stage).holder is not None:
            self.stage.ask(A, Operation.RELEASE)
        assert not self.stage.object.waiting()


TestLocks = Locks.TestCase
