"""Memory that processes on several hosts share: release consistency, with its home at the broker.

Within a host processes share pages, and none of it is seen here. A segment that one host has is a name
here and nothing else. When a second host wants it, the first sends all of it (`Share`), and from then on
what its members write (`Write`). Here is the *master*: each *grain* that was written. With it stand the
clock of its last change, the agent that it came by, and the latest clock of a change by any other.

**One rule.** What leaves a host carries the host's writes, what arrives brings the others'. The agent
sends its writes before what releases. `bring` sends an agent the grains that it lacks, before the answer
that acquires. Both travel one link in order, so no vector clocks are needed.

**Without synchronisation** writes are brought within `Limits.freshness`.

**Repetition.** What agents say of memory is numbered for each agent and program; a number that was
there is dropped. After a new link an agent is sent all that was ever changed: its clock is not known.

**What stays.** A segment lives while a member has it, while it has a name, or once it is pinned until
its program ends. The agent asks (`Unmap`) before it lets go of the memory: if it is the
only one, the broker takes it over.
"""

from __future__ import annotations

from manyhands_broker.coordination.model import Agent, Program
from manyhands_broker.coordination.records import RecordKind
from manyhands_broker.coordination.shared_memory.pacing import Pacing
from manyhands_broker.coordination.shared_memory.segments import (
    ProgramMemory,
    Segment,
    Sharing,
    Stale,
    grain_key,
    grain_record,
    lacking,
    patches_of,
    segment_record,
    size_text,
    store,
)
from manyhands_broker.coordination.shared_memory.validate import validate_memory
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.coordination.kinds import Outcome
from manyhands_shared.coordination.memory.differences import bytes_of, unpack_ranges
from manyhands_shared.coordination.memory.shape import is_shape
from manyhands_shared.protocol.messages.coordination import (
    FetchPart,
    Map,
    Mapped,
    Pin,
    Share,
    Unmap,
    Write,
)

#: Bytes of grains in one message.
_WRITE_BYTES = 1 << 20


class Memory:
    """The segments of all programs."""

    def __init__(self, state: CoordinationState) -> None:
        self._state = state
        self.programs: dict[bytes, ProgramMemory] = {}
        self.segments: dict[bytes, Segment] = {}
        #: Segments of each agent.
        self.of_agent: dict[bytes, dict[bytes, None]] = {}
        self.pacing = Pacing(state, self.segments, self.of_agent)
        self._changed: dict[bytes, None] = {}
        self._written: dict[tuple[bytes, int], None] = {}
        self._counted: dict[tuple[bytes, bytes], None] = {}
        state.before_telling = self.bring

    # What agents say

    def map(self, agent: Agent, message: Map, now: float) -> None:
        """Take note of a segment that was made, or have one brought to a host that wants it."""
        del now
        program = self._program(agent, message.program)
        if message.size:
            if program is not None and self._is_new(agent, message.program, message.seq):
                self._made(agent, message)
            return
        segment = self.segments.get(message.segment)
        if program is None or segment is None or segment.program != message.program:
            self._refuse(agent, message, Outcome.NONE, "")
        elif segment.sharing is Sharing.LOST:
            self._refuse(agent, message, Outcome.GONE, "the host that had it is lost")
        elif agent.id in segment.hosts or segment.sharing is Sharing.SHARED:
            self._enter(segment, agent.id, used=True)
            self._send_mapped(agent, segment)
        elif segment.sharing is Sharing.SENT:
            segment.wanted[agent.id] = None
            self.changed(segment)
        elif self._state.free_bytes < segment.size:
            self._refuse(agent, message, Outcome.NO_ROOM, self._no_room(segment))
        else:
            segment.wanted[agent.id] = None
            self._share(segment)

    def part(self, agent: Agent, message: FetchPart, now: float) -> None:
        """Take a part of a segment that its host sends."""
        del now
        segment = self.segments.get(message.segment)
        if segment is None or segment.sharing is not Sharing.SENT or agent.id not in segment.hosts:
            return
        memory = self.programs[segment.program]
        for body in message.bodies:
            data = bytes_of(body)
            if message.at + len(data) <= segment.size:
                memory.clock += 1
                self._store(memory, segment, message.at, data, agent.id)
        if message.last:
            self._is_shared(segment)

    def write(self, agent: Agent, message: Write, now: float) -> None:
        """Take what was written on a host."""
        del now
        if self._program(agent, message.program) is None:
            return
        if not self._is_new(agent, message.program, message.seq):
            return
        memory = self.programs[message.program]
        memory.clock += 1
        for patch in message.patches:
            segment = self.segments.get(patch.segment)
            if (
                segment is None
                or agent.id not in segment.hosts
                or segment.program != memory.program
                or segment.sharing not in (Sharing.SENT, Sharing.SHARED)
            ):
                self._state.counters["refused_writes"] += 1
                continue
            data, at = bytes_of(patch.data[0]), 0
            for begin, end in unpack_ranges(patch.ranges):
                if end > segment.size or at + end - begin > len(data):
                    self._state.counters["refused_writes"] += 1
                    break
                self._store(memory, segment, begin, data[at : at + end - begin], agent.id)
                at += end - begin
            self._state.counters["written_bytes"] += at
        self._refresh_later(memory)

    def unmap(self, agent: Agent, message: Unmap, now: float) -> None:
        """Take note that no member on a host has a segment; say whether the host may let go of it."""
        del now
        segment = self.segments.get(message.segment)
        if message.program in self.programs:
            new = self._is_new(agent, message.program, message.seq)
        else:
            new = segment is None
        if segment is None or agent.id not in segment.hosts:
            self._state.send(agent.peer, Unmap(message.program, message.segment, 0))
        elif new:
            segment.hosts[agent.id] = False
            self.changed(segment)
            only = segment.sharing is Sharing.SOLE and segment.needed
            if only and segment.size <= self._state.free_bytes:
                # No process there has it, so it does not depend on that host any more.
                self._share(segment)
            else:
                self.settle(segment)

    def pin(self, agent: Agent, message: Pin, now: float) -> None:
        """Keep a segment until its program ends."""
        del now
        segment = self.segments.get(message.segment)
        if message.program not in self.programs:
            return
        new = self._is_new(agent, message.program, message.seq)
        if new and segment is not None and segment.program == message.program:
            segment.pinned = True
            self.changed(segment)

    # What is brought to hosts

    def bring(self, agent: Agent, program: Program) -> None:
        """Send an agent the writes that it lacks, before it is told what may depend on them."""
        memory = self.programs.get(program.id)
        if memory is None or agent.peer is None:
            return
        batch: list[Stale] = []
        size = 0
        for stale in lacking(memory, agent.id):
            batch.append(stale)
            size += stale.segment.grain_bytes
            if size >= _WRITE_BYTES:
                self._send_grains(agent, memory, batch)
                batch, size = [], 0
        if batch:
            self._send_grains(agent, memory, batch)

    def linked(self, agent: Agent) -> None:
        """An agent has a new link: what it was sent may be lost, and what it was asked too."""
        self.pacing.forget(agent.id)
        for key in self.of_agent.get(agent.id, ()):
            segment = self.segments[key]
            self.programs[segment.program].sent.pop(agent.id, None)
            if segment.sharing is Sharing.SENT:
                self._state.send(agent.peer, Share(segment.key))

    # Ends

    def agent_gone(self, agent: bytes) -> None:
        """What an agent had is lost, unless it is here too."""
        self.pacing.forget(agent)
        for key in list(self.of_agent.get(agent, ())):
            segment = self.segments[key]
            self._leave(segment, agent)
            if segment.sharing is Sharing.SHARED:
                self.settle(segment)
            else:
                self._lose(segment)
        for name, memory in self.programs.items() if agent else ():
            if memory.seen.pop(agent, None) is not None:
                self._counted.pop((name, agent), None)
                self._state.write(RecordKind.WRITTEN, name + agent, None)
            memory.sent.pop(agent, None)

    def program_ended(self, program: Program) -> None:
        """Drop the memory of a program."""
        memory = self.programs.get(program.id)
        if memory is None:
            return
        for segment in list(memory.segments.values()):
            self._drop(segment)
        for agent in memory.seen:
            self._state.write(RecordKind.WRITTEN, program.id + agent, None)
            self._counted.pop((program.id, agent), None)
        del self.programs[program.id]

    # The log

    def flush(self) -> None:
        """End a drain: write what has changed."""
        write = self._state.write
        for key in self._changed:
            write(RecordKind.SEGMENT, key, segment_record(self.segments[key]))
        for key, index in self._written:
            grain = self.segments[key].grains[index]
            write(RecordKind.GRAIN, grain_key(key, index), grain_record(grain))
        for program, agent in self._counted:
            seen = self.programs[program].seen.get(agent)
            write(RecordKind.WRITTEN, program + agent, seen)
        self._changed.clear()
        self._written.clear()
        self._counted.clear()

    def restore(self, segment: Segment) -> None:
        """Take a segment back from the log, with its grains."""
        memory = self._memory(segment.program)
        self.segments[segment.key] = memory.segments[segment.key] = segment
        for name in segment.names:
            memory.names[name] = segment.key
        for agent in segment.hosts:
            memory.hosts[agent] += 1
            self.of_agent.setdefault(agent, {})[segment.key] = None
        if segment.sharing in (Sharing.SENT, Sharing.SHARED):
            self._state.segment_bytes += segment.size

    def restored(self, seen: dict[tuple[bytes, bytes], int]) -> None:
        """All segments are back: put their changes in order."""
        for (program, agent), number in seen.items():
            self._memory(program).seen[agent] = number
        for memory in self.programs.values():
            grains = [
                (grain.last, key, index, grain)
                for key, segment in memory.segments.items()
                for index, grain in segment.grains.items()
            ]
            grains.sort(key=lambda one: one[0])
            for last, key, index, grain in grains:
                memory.changed[key, index] = grain
                memory.clock = last
        for agent in list(self.of_agent):
            if agent not in self._state.agents:
                self.agent_gone(agent)

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: naming what does not add up.
        """
        self.pacing.validate()
        validate_memory(self._state, self.programs, self.segments, self.of_agent)

    # Segments

    def changed(self, segment: Segment) -> None:
        """Have a segment written to the log."""
        self._changed[segment.key] = None

    def _made(self, agent: Agent, message: Map) -> None:
        segment = self.segments.get(message.segment)
        if segment is None:
            full = len(self._memory(message.program).segments) >= self._state.limits.program_objects
            if full or not is_shape(message.shape, message.size):
                self._state.counters["refused_segments"] += 1
                return
            segment = Segment(message.segment, message.program, message.size, message.shape)
            self.segments[segment.key] = segment
            self._memory(message.program).segments[segment.key] = segment
        elif segment.program != message.program or segment.size != message.size:
            self._state.counters["refused_segments"] += 1
            return
        elif segment.sharing is Sharing.SHARED:
            # A root goes on behind another agent, which begins with what is here.
            self._enter(segment, agent.id, used=True)
            self._send_mapped(agent, segment)
            return
        elif segment.sharing is Sharing.LOST:
            segment.sharing = Sharing.SOLE
        elif not self._takes_over(segment, agent):
            self._state.counters["refused_segments"] += 1
            return
        self._enter(segment, agent.id, used=True)

    def _takes_over(self, segment: Segment, agent: Agent) -> bool:
        """Whether an agent has the only copy: its own, or that of a dead agent of its host."""
        for agent_id in list(segment.hosts):
            there = self._state.agents.get(agent_id)
            if there is not agent:
                if there is not None and (there.peer is not None or there.host != agent.host):
                    return False
                self._leave(segment, agent_id)
        return True

    def _share(self, segment: Segment) -> None:
        """Have the only host of a segment send it."""
        segment.sharing = Sharing.SENT
        self._state.segment_bytes += segment.size
        self.changed(segment)
        for agent_id in segment.hosts:
            there = self._state.agents.get(agent_id)
            if there is not None:
                self._state.send(there.peer, Share(segment.key))

    def _is_shared(self, segment: Segment) -> None:
        segment.sharing = Sharing.SHARED
        wanted = list(segment.wanted)
        segment.wanted.clear()
        self.changed(segment)
        for agent_id in wanted:
            agent = self._state.agents.get(agent_id)
            if agent is not None:
                self._enter(segment, agent_id, used=True)
                self._send_mapped(agent, segment)
        self.settle(segment)

    def settle(self, segment: Segment) -> None:
        """Let hosts go that do not need a segment, and the segment if nothing does."""
        for agent_id, used in list(segment.hosts.items()):
            if not used and (segment.sharing is Sharing.SHARED or not segment.needed):
                self._leave(segment, agent_id)
                self._let_go(segment, agent_id)
        if not segment.hosts and not segment.needed:
            self._drop(segment)

    def _lose(self, segment: Segment) -> None:
        """The only host of a segment is gone."""
        if segment.sharing is Sharing.SENT:
            self._forget_content(segment)
        segment.sharing = Sharing.LOST
        wanted = list(segment.wanted)
        segment.wanted.clear()
        self.changed(segment)
        # It is known for what asks for it, until the program ends.
        segment.pinned = True
        for agent_id in wanted:
            agent = self._state.agents.get(agent_id)
            if agent is not None:
                why = "the host that had it is lost"
                gone = Mapped(segment.program, segment.key, Outcome.GONE, 0, None, why)
                self._state.send(agent.peer, gone)

    def _drop(self, segment: Segment) -> None:
        memory = self.programs[segment.program]
        for agent_id in list(segment.hosts):
            self._leave(segment, agent_id)
            self._let_go(segment, agent_id)
        self._forget_content(segment)
        for name in segment.names:
            memory.names.pop(name, None)
        del self.segments[segment.key], memory.segments[segment.key]
        self._changed.pop(segment.key, None)
        self._state.write(RecordKind.SEGMENT, segment.key, None)

    def _forget_content(self, segment: Segment) -> None:
        memory = self.programs[segment.program]
        for index in segment.grains:
            memory.changed.pop((segment.key, index), None)
            self._written.pop((segment.key, index), None)
            self._state.write(RecordKind.GRAIN, grain_key(segment.key, index), None)
        segment.grains.clear()
        if segment.sharing in (Sharing.SENT, Sharing.SHARED):
            self._state.segment_bytes -= segment.size

    def _let_go(self, segment: Segment, agent_id: bytes) -> None:
        agent = self._state.agents.get(agent_id)
        if agent is not None:
            self._state.send(agent.peer, Unmap(segment.program, segment.key, 0))

    def _enter(self, segment: Segment, agent: bytes, *, used: bool) -> None:
        if agent not in segment.hosts:
            self.programs[segment.program].hosts[agent] += 1
        segment.hosts[agent] = used
        self.of_agent.setdefault(agent, {})[segment.key] = None
        self.changed(segment)

    def _leave(self, segment: Segment, agent: bytes) -> None:
        del segment.hosts[agent]
        segment.since.pop(agent, None)
        hosts = self.programs[segment.program].hosts
        hosts[agent] -= 1
        if not hosts[agent]:
            del hosts[agent]
        keys = self.of_agent.get(agent)
        if keys is not None:
            keys.pop(segment.key, None)
            if not keys:
                del self.of_agent[agent]
        self.changed(segment)

    # Content

    def _store(
        self, memory: ProgramMemory, segment: Segment, begin: int, data: memoryview, agent: bytes
    ) -> None:
        for index in store(memory, segment, begin, data, agent):
            self._written[segment.key, index] = None

    def _send_grains(self, agent: Agent, memory: ProgramMemory, batch: list[Stale]) -> None:
        patches = patches_of(batch)
        seen = memory.seen.get(agent.id, 0)
        self._state.send(agent.peer, Write(memory.program, seen, memory.clock, patches))
        self.pacing.sent(agent, sum(stale.segment.grain_bytes for stale in batch))

    def _refresh(self, memory: ProgramMemory) -> None:
        memory.refreshing = False
        program = self._state.programs.get(memory.program)
        if program is None:
            return
        for agent_id in list(memory.hosts):
            agent = self._state.agents.get(agent_id)
            if agent is None:
                continue
            if self.pacing.is_behind(agent):
                # It gets all of it at once when it has read what is on its way.
                self._refresh_later(memory)
            else:
                self.bring(agent, program)

    def _refresh_later(self, memory: ProgramMemory) -> None:
        if not memory.refreshing:
            memory.refreshing = True
            state = self._state
            state.timers.at(state.now + state.limits.freshness, lambda _: self._refresh(memory))

    # Small things

    def _program(self, agent: Agent, program_id: bytes) -> Program | None:
        """Return a program that goes on and has members at the agent; else `None`."""
        program = self._state.programs.get(program_id)
        if program is None or program.ending or program not in agent.programs:
            return None
        self._memory(program_id)
        return program

    def _memory(self, program: bytes) -> ProgramMemory:
        memory = self.programs.get(program)
        if memory is None:
            memory = self.programs[program] = ProgramMemory(program)
        return memory

    def _is_new(self, agent: Agent, program: bytes, seq: int) -> bool:
        """Whether an agent has not said this before."""
        seen = self.programs[program].seen
        if seq <= seen.get(agent.id, 0):
            return False
        seen[agent.id] = seq
        self._counted[program, agent.id] = None
        return True

    def _send_mapped(self, agent: Agent, segment: Segment) -> None:
        segment.since.setdefault(agent.id, self.programs[segment.program].clock)
        mapped = Mapped(segment.program, segment.key, Outcome.OK, segment.size, segment.shape, "")
        self._state.send(agent.peer, mapped)

    def _refuse(self, agent: Agent, message: Map, outcome: Outcome, reason: str) -> None:
        mapped = Mapped(message.program, message.segment, outcome, 0, None, reason)
        self._state.send(agent.peer, mapped)

    def _no_room(self, segment: Segment) -> str:
        size, room = size_text(segment.size), size_text(self._state.limits.coordination_bytes)
        return (
            f"{size} of shared memory do not fit the broker's room of {room}; raise "
            "--coordination-bytes there, or keep these processes on one host with node="
        )
