"""The rules of an event."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from harness.worlds.sync_object import MEMBERS, Stage, StageMachine
from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.coordination.rules.event import EventRules

A, B, C = MEMBERS


def test_all_that_wait_are_woken_and_nobody_waits_for_what_is_set() -> None:
    stage = Stage(EventRules())
    waits = [stage.ask(member, Operation.WAIT, True, None) for member in (A, B)]
    assert stage.outcome(stage.ask(C, Operation.WAIT, False, None)) is Outcome.NO
    stage.ask(C, Operation.SET)
    assert [stage.outcome(op) for op in waits] == [Outcome.OK, Outcome.OK]
    assert stage.outcome(stage.ask(A, Operation.WAIT, True, None)) is Outcome.OK
    stage.ask(C, Operation.CLEAR)
    assert stage.outcome(stage.ask(A, Operation.WAIT, True, None)) is None


def test_a_wait_ends_with_its_time() -> None:
    stage = Stage(EventRules())
    waits = stage.ask(A, Operation.WAIT, True, 1.0)
    stage.advance(0.9)
    assert stage.outcome(waits) is None
    stage.advance(0.2)
    assert stage.outcome(waits) is Outcome.NO


class Events(StageMachine):
    """Any sequence: a wait ends when the flag is set, and not before."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(EventRules())
        self.flag = False

    @rule(member=st.sampled_from(MEMBERS), block=st.booleans(), timed=st.booleans())
    def wait(self, member: bytes, block: bool, timed: bool) -> None:
        op = self.stage.ask(member, Operation.WAIT, block, 2.0 if timed else None)
        expected = Outcome.OK if self.flag else None if block else Outcome.NO
        assert self.stage.outcome(op) is expected

    @rule(member=st.sampled_from(MEMBERS), flag=st.booleans())
    def change(self, member: bytes, flag: bool) -> None:
        waits = list(self.stage.object.waiting())
        self.stage.ask(member, Operation.SET if flag else Operation.CLEAR)
        self.flag = flag
        if flag:
            assert all(self.stage.outcome(op) is Outcome.OK for op in waits)


TestEvents = Events.TestCase
