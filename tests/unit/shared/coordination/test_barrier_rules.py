"""The rules of a barrier."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from harness.worlds.sync_object import MEMBERS, Stage, StageMachine
from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.coordination.rules.barrier import BarrierRules, Phase
from manyhands_shared.coordination.rules.model import Op

A, B, C = MEMBERS


def barrier_of(stage: Stage) -> BarrierRules:
    assert isinstance(stage.object, BarrierRules)
    return stage.object


def arrive(
    stage: Stage, member: bytes, *, seconds: float | None = None, action: bool = False
) -> Op:
    return stage.ask(member, Operation.ARRIVE, seconds, action)


def look(stage: Stage) -> tuple[int, int, bool]:
    parties, there, broken = stage.answers[stage.ask(A, Operation.LOOK)].arguments
    return parties, there, broken


def test_the_last_opens_it_and_each_has_an_index_of_its_own() -> None:
    stage = Stage(BarrierRules(3))
    asked = [arrive(stage, member) for member in MEMBERS]
    assert [stage.answers[op].arguments for op in asked] == [(0,), (1,), (2,)]
    assert look(stage) == (3, 0, False)
    assert barrier_of(stage).generation == 1


def test_the_last_leads_if_it_has_an_action_and_the_next_generation_waits() -> None:
    stage = Stage(BarrierRules(2))
    first, last = arrive(stage, A, action=True), arrive(stage, B, action=True)
    assert stage.answers[last].outcome is Outcome.LEAD
    assert stage.answers[last].arguments == (1, 0)
    early = arrive(stage, C)
    assert stage.outcome(first) is stage.outcome(early) is None
    stage.ask(B, Operation.OPEN, 0)
    assert stage.answers[first].arguments == (0,)
    assert stage.outcome(early) is None
    assert stage.answers[arrive(stage, A)].arguments == (1,)
    assert stage.answers[early].arguments == (0,)


def test_time_breaks_it_for_all_until_it_is_reset() -> None:
    stage = Stage(BarrierRules(3))
    first, second = arrive(stage, A, seconds=1.0), arrive(stage, B)
    stage.advance(1.0)
    assert stage.outcome(first) is stage.outcome(second) is Outcome.BROKEN
    assert stage.outcome(arrive(stage, C)) is Outcome.BROKEN
    assert look(stage) == (3, 0, True)
    stage.ask(A, Operation.RESET)
    assert look(stage) == (3, 0, False)


def test_a_barrier_that_is_led_does_not_break_of_time() -> None:
    stage = Stage(BarrierRules(2))
    first, leader = arrive(stage, A, seconds=1.0), arrive(stage, B, action=True)
    stage.advance(5.0)
    assert stage.outcome(first) is None
    stage.ask(B, Operation.OPEN, 0)
    assert stage.outcome(first) is Outcome.OK
    assert stage.outcome(leader) is Outcome.LEAD


def test_a_dead_leader_breaks_it_and_its_late_word_opens_nothing() -> None:
    stage = Stage(BarrierRules(2))
    first = arrive(stage, A)
    arrive(stage, B, action=True)
    early = arrive(stage, C)
    stage.die(B)
    assert stage.outcome(first) is stage.outcome(early) is Outcome.BROKEN
    stage.ask(C, Operation.OPEN, 0)
    assert look(stage) == (2, 0, True)


def test_reset_sends_home_who_has_arrived() -> None:
    stage = Stage(BarrierRules(2))
    first = arrive(stage, A)
    stage.ask(B, Operation.RESET)
    assert stage.outcome(first) is Outcome.BROKEN
    assert look(stage) == (2, 0, False)


class Barriers(StageMachine):
    """Any sequence: a generation opens when all are there, and breaks for all or none."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(BarrierRules(3))

    @rule(member=st.sampled_from(MEMBERS), timed=st.booleans(), action=st.booleans())
    def arrive(self, member: bytes, timed: bool, action: bool) -> None:
        phase, there = barrier_of(self.stage).phase, len(barrier_of(self.stage).arrived)
        op = arrive(self.stage, member, seconds=2.0 if timed else None, action=action)
        if phase is Phase.BROKEN:
            assert self.stage.outcome(op) is Outcome.BROKEN
        elif phase is Phase.LEADING or there < 2:
            assert self.stage.outcome(op) is None
        else:
            assert self.stage.outcome(op) is (Outcome.LEAD if action else Outcome.OK)

    @precondition(lambda self: barrier_of(self.stage).phase is Phase.LEADING)
    @rule()
    def open(self) -> None:
        barrier = barrier_of(self.stage)
        assert barrier.leader is not None
        arrived = list(barrier.arrived)
        self.stage.ask(barrier.leader[0], Operation.OPEN, barrier.generation)
        assert [self.stage.answers[op].arguments for op in arrived] == [(0,), (1,)]

    @rule(member=st.sampled_from(MEMBERS))
    def open_late(self, member: bytes) -> None:
        barrier = barrier_of(self.stage)
        if barrier.generation:
            before = barrier.state()
            self.stage.ask(member, Operation.OPEN, barrier.generation - 1)
            assert barrier_of(self.stage).state() == before

    @rule(member=st.sampled_from(MEMBERS), how=st.sampled_from((Operation.BREAK, Operation.RESET)))
    def empty(self, member: bytes, how: Operation) -> None:
        there = list(self.stage.object.waiting())
        led = barrier_of(self.stage).phase is Phase.LEADING
        self.stage.ask(member, how)
        if how is Operation.BREAK or not led:
            assert all(self.stage.outcome(op) is Outcome.BROKEN for op in there)


TestBarriers = Barriers.TestCase
