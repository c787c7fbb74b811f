"""The invariants of shared memory."""

from __future__ import annotations

from collections.abc import Mapping

from manyhands_broker.coordination.shared_memory.segments import ProgramMemory, Segment, Sharing
from manyhands_broker.coordination.state import CoordinationState


def validate_memory(
    state: CoordinationState,
    programs: Mapping[bytes, ProgramMemory],
    segments: Mapping[bytes, Segment],
    of_agent: Mapping[bytes, Mapping[bytes, None]],
) -> None:
    """Check that all that refers to each other does so both ways, and every count.

    Raises:
        AssertionError: naming what does not add up.
    """
    used = 0
    for key, segment in segments.items():
        memory = programs[segment.program]
        assert segment.program in state.programs, "memory outlives its program"
        assert memory.segments[key] is segment, "a segment is of no program"
        for name in segment.names:
            assert memory.names[name] == key, "a name leads to another segment"
        for agent in segment.hosts:
            assert key in of_agent[agent], "a segment is not with its agent"
            assert agent in state.agents, "a segment is on a host without an agent"
        if segment.sharing in (Sharing.SENT, Sharing.SHARED):
            used += segment.size
        else:
            assert not segment.grains, "a segment that is not here has a content"
        if segment.sharing in (Sharing.SOLE, Sharing.SENT):
            assert len(segment.hosts) == 1, "a segment is on no host, or on several unshared"
        assert segment.needed or any(segment.hosts.values()), "nothing needs a segment"
    assert used == state.segment_bytes, "the bytes of segments are wrong"
    for agent, keys in of_agent.items():
        for key in keys:
            assert agent in segments[key].hosts, "an agent has a segment that is not there"
    for memory in programs.values():
        last = 0
        for (key, index), grain in memory.changed.items():
            assert memory.segments[key].grains[index] is grain, "a change of no segment"
            assert last <= grain.last <= memory.clock, "changes are out of order"
            assert grain.others <= grain.last, "another's change is behind the last"
            last = grain.last
        assert all(sent <= memory.clock for sent in memory.sent.values()), "sent ahead"
