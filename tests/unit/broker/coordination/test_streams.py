"""Streams at the broker: an agent is told that the other end is gone, also behind a restart."""

from __future__ import annotations

import pytest

from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.model import Agent, Member, Program
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.coordination.streams import Streams
from manyhands_broker.core.effects import Send
from manyhands_broker.core.model.job import Job
from manyhands_shared.protocol.messages.coordination import (
    GONE,
    RECEIVES,
    Flow,
    Open,
    Opened,
    Shut,
)

MEMBER = b"m" * 16
STREAM, ONE, TWO = b"s" * 16, b"1" * 16, b"2" * 16
LEASE = 5.0


def _fail(error: Exception, job: Job | None) -> None:
    raise error


@pytest.fixture
def state() -> CoordinationState:
    return CoordinationState(CoordinationLimits(lease=LEASE), b"b" * 16, 0.0, 0.0, _fail)


def come(state: CoordinationState, agent_id: bytes) -> Agent:
    """Have an agent come."""
    agent = state.agents[agent_id] = Agent(agent_id, "host", "node")
    agent.peer = agent_id
    return agent


def said(state: CoordinationState) -> list[tuple[bytes, object]]:
    """Return what was sent, and to whom."""
    effects, state.effects = state.effects, []
    return [(one.peer, one.message) for one in effects if isinstance(one, Send)]


def wait(state: CoordinationState, until: float) -> None:
    """Let time pass."""
    state.now = until
    state.timers.run(until)


@pytest.mark.parametrize("message", [Opened(STREAM, TWO, 0, ""), Flow(STREAM, TWO, 0, [b"x"])])
def test_what_a_restarted_broker_is_told_of_a_lost_end_is_answered_in_the_end(
    state: CoordinationState, message: Opened | Flow
) -> None:
    streams, agent = Streams(state), come(state, ONE)
    if isinstance(message, Opened):
        streams.opened(agent, message)
    else:
        streams.flow(agent, message)
    # The other agent may still come.
    assert said(state) == []
    wait(state, LEASE)
    assert said(state) == [(ONE, Shut(STREAM, ONE, GONE, 0))]


def test_an_agent_that_comes_back_in_time_keeps_its_streams(state: CoordinationState) -> None:
    streams, one = Streams(state), come(state, ONE)
    streams.opened(one, Opened(STREAM, TWO, 3, ""))
    two = come(state, TWO)
    streams.opened(two, Opened(STREAM, ONE, 4, ""))
    assert said(state) == [(ONE, Opened(STREAM, TWO, 4, ""))]
    wait(state, LEASE)
    assert said(state) == []


def test_a_stall_of_the_broker_gives_it_as_much_more_time(state: CoordinationState) -> None:
    streams, one = Streams(state), come(state, ONE)
    state.stalled(LEASE)
    state.now += LEASE
    streams.opened(one, Opened(STREAM, TWO, 3, ""))
    assert said(state) == []
    state.stalled(LEASE)
    wait(state, 3 * LEASE - 1)
    assert said(state) == []
    wait(state, 3 * LEASE)
    assert said(state) == [(ONE, Shut(STREAM, ONE, GONE, 0))]


def test_later_it_is_answered_at_once(state: CoordinationState) -> None:
    streams, agent = Streams(state), come(state, ONE)
    wait(state, LEASE)
    streams.opened(agent, Opened(STREAM, TWO, 0, ""))
    assert said(state) == [(ONE, Shut(STREAM, ONE, GONE, 0))]


@pytest.mark.parametrize("answered", [False, True])
def test_a_claim_that_comes_again_behind_the_end_of_its_claimer_ends_the_stream(
    state: CoordinationState, answered: bool
) -> None:
    streams, claimer, holder = Streams(state), come(state, ONE), come(state, TWO)
    program = Program(b"p" * 16, b"r" * 16, "host", b"k" * 32)
    member = state.members[MEMBER] = Member(MEMBER, program, program.root)
    member.agent = claimer
    claim = Open(STREAM, b"e" * 16, MEMBER, program.id, TWO, RECEIVES)
    streams.open(claimer, claim)
    onward = Open(STREAM, b"e" * 16, MEMBER, program.id, ONE, RECEIVES)
    assert said(state) == [(TWO, onward)]
    if answered:
        # A link loses that.
        streams.opened(holder, Opened(STREAM, ONE, 0, ""))
        said(state)
    del state.members[member.id]
    streams.open(claimer, claim)
    refusal = "its claimer is not a member of the program on this host"
    assert said(state) == [
        (ONE, Opened(STREAM, TWO, 0, refusal)),
        (TWO, Shut(STREAM, ONE, GONE, 0)),
    ]
    # Nothing of it is left.
    assert (state.streams, holder.claims, claimer.streams, holder.streams) == ({}, {}, set(), set())
