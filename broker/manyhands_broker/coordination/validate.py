"""The invariants of programs, members and agents."""

from __future__ import annotations

from collections import Counter

from manyhands_broker.coordination.members.placing import Placing
from manyhands_broker.coordination.model import NO_PARENT, Agent, Phase, Program
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.payloads.payload import total


def validate(state: CoordinationState, placing: Placing, memory: Memory) -> None:
    """Check that all that refers to each other does so both ways, and every count.

    Raises:
        AssertionError: naming what does not add up.
    """
    _members(state)
    for program in state.programs.values():
        _program(state, program)
    for agent in state.agents.values():
        _agent(state, agent, memory)
    for peer, agent in state.agent_of.items():
        assert agent.peer == peer, "a link that its agent does not know"
        assert state.agents.get(agent.id) is agent, "a link of an agent that is gone"
    for host, agent in state.hosting.items():
        assert agent.host == host, f"{host} is spoken for by the agent of {agent.host}"
        assert state.agents.get(agent.id) is agent, "a host's agent is gone"
    started = [member.start for member in state.members.values() if member.start is not None]
    kept = sum(total(start.bodies) for start in started)
    assert kept == state.start_bytes, "the bytes of what has not begun"
    by_key = Counter(program.by_key for program in state.programs.values())
    assert by_key == +state.programs_by_key, "the count of programs by key"
    agents = Counter(agent.who.key for agent in state.agents.values())
    assert agents == +state.agents_by_key, "the count of agents by key"
    placed = Counter(
        member.host for member in state.members.values() if member.living and not member.is_root
    )
    for host, count in placed.items():
        assert placing.members_on(host) == count, f"{host} has {count} members"


def _members(state: CoordinationState) -> None:
    for member_id, member in state.members.items():
        name = f"member {member.name or member_id.hex()[:8]}"
        assert member.id == member_id, f"{name} stands under another id"
        assert member.program.members.get(member_id) is member, f"{name} is not in its program"
        if member.agent is not None and member.living:
            assert member in member.agent.members, f"{name} is not with its agent"
        waits = member in state.awaiting.get(member.host, ())
        unplaced = member.living and member.agent is None and not member.is_root
        assert waits == unplaced, f"{name} waits for an agent: {waits}"
        if member.parent != NO_PARENT and member.parent in state.members:
            assert member in state.members[member.parent].children, (
                f"{name} is not its parent's child"
            )
        for child in member.children:
            assert child.parent == member_id, f"{name} has another's child"
            assert state.members.get(child.id) is child, f"{name} has a child that is gone"
        if member.phase == Phase.STARTING:
            assert member.agent is not None, f"{name} starts nowhere"
        if not member.living:
            parent = state.members.get(member.parent)
            assert parent is not None, f"{name} has ended and nothing asks for it"
            assert parent.living, f"{name} has ended, and so has its parent"
            assert not member.answers, f"{name} has ended and has answers"
            assert not member.waiting, f"{name} has ended and waits"
        assert all(number <= member.last_number for number in member.waiting), f"{name} waits ahead"


def _program(state: CoordinationState, program: Program) -> None:
    name = f"program {program.id.hex()[:8]}"
    assert state.programs.get(program.id) is program, f"{name} stands under another id"
    assert program.members, f"{name} has no members and is here"
    for member_id, member in program.members.items():
        assert state.members.get(member_id) is member, f"{name} has a member that is gone"
    if not program.ending:
        root = program.members.get(program.root)
        assert root is not None, f"{name} has no root and goes on"
        assert root.living, f"{name} goes on without its root"
        if program.root_lost_at is None:
            assert root.agent is not None, f"{name}: nothing speaks for its root"
            assert root.agent.peer is not None, f"{name}: its root has no link, and no grace"


def _agent(state: CoordinationState, agent: Agent, memory: Memory) -> None:
    name = f"the agent of {agent.host or '?'}"
    counted = Counter(member.program for member in agent.members)
    assert counted == agent.programs, f"{name}: the count of members by program"
    for member in agent.members:
        assert member.agent is agent, f"{name} has the member of another"
        assert member.living, f"{name} has a member that has ended"
    if agent.peer is not None:
        assert state.agent_of.get(agent.peer) is agent, f"{name} has a link that is not its own"
        assert not agent.expired, f"{name} has a link and no lease"
    else:
        # Streams and memory may go without its doing. Then it is forgotten with its lease.
        kept = agent.members or agent.streams or agent.id in memory.of_agent or not agent.expired
        assert kept, f"{name} has neither link nor lease, members, streams or memory"
    for stream in agent.streams:
        assert agent in state.streams[stream], f"{name} has a stream that joins others"
