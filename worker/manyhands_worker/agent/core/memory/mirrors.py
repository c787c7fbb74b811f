"""Shared memory on this host: what members have of it, and what passes between it and the broker.

`leaving` sends the host's writes, before anything that carries them to others. What the broker sends of
the others' writes is in place before what follows it is handed to a member. The agent reads members and
the broker in order, so no more is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands_shared.coordination.kinds import Outcome
from manyhands_shared.coordination.memory.differences import (
    Range,
    bytes_of,
    pack_ranges,
    unpack_ranges,
)
from manyhands_shared.coordination.memory.shape import is_shape
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects
from manyhands_worker.agent.core.memory.segment import Segment, Source, Stage
from manyhands_worker.agent.core.model import Member
from manyhands_worker.agent.core.tables import Tables

#: In place of a request's number: a segment that is wanted.
MAPPING = -2
#: Seconds within which unsynchronised writes leave. Looking for them takes 2 % of a core at most.
FRESHNESS = 0.05
_COMPARED_BYTES_PER_SECOND = 8e9
_LOOKING_SHARE = 0.02
#: Bytes of one `Write`, of one part, and parts on their way.
_WRITE_BYTES = 1 << 20
_MAX_RANGES = 60_000
_PART_BYTES = 1 << 20
_PARTS = 4
#: Beyond this the broker is asked what it has of the writes.
_UNCONFIRMED_BYTES = 4 << 20


@dataclass(slots=True)
class _Memory:
    """The memory of one program here."""

    program: bytes
    segments: dict[bytes, Segment] = field(default_factory=dict)
    shared: dict[bytes, Segment] = field(default_factory=dict)
    #: Writes that the broker is not known to have: place among all repeats, by number.
    places: dict[int, int] = field(default_factory=dict)
    fresh_at: float = 0.0

    @property
    def period(self) -> float:
        """How often to look for writes."""
        compared = sum(one.size for one in self.shared.values()) / _COMPARED_BYTES_PER_SECOND
        return max(FRESHNESS, compared / _LOOKING_SHARE)


class Mirrors:
    """The memory of all programs.

    Args:
        tables: of the agent.
        out: effects, in order.
        send: sends to the broker if the link is ready.
        source: where memory comes from.
    """

    def __init__(
        self,
        tables: Tables,
        out: list[effects.Effect],
        send: Callable[[m.Message], None],
        source: Source,
    ) -> None:
        #: Bytes of writes since the broker was asked what it has.
        self.unconfirmed = 0
        self._tables = tables
        self._out = out
        self._send = send
        self._source = source
        self._programs: dict[bytes, _Memory] = {}
        self._segments: dict[bytes, Segment] = {}
        self._of_member: dict[bytes, dict[bytes, None]] = {}
        #: Those that are `unsure`. No other member is given these, for its writes could be undone.
        self._unsure: dict[bytes, Segment] = {}
        #: The number of what was said last, of any program: it never falls.
        self._seq = 0
        tables.leaving = self.leaving
        tables.leaving_all = self.leaving_all
        tables.let_go = self.let_go
        #: What takes each message of the broker.
        self.receivers: dict[type, Callable[..., None]] = {
            c.Mapped: self._mapped,
            c.Share: self._share,
            c.Write: self._apply,
            c.FetchPart: self._load,
            c.Unmap: self._unmapped,
        }

    @property
    def deadline(self) -> float | None:
        """When writes are due that no message has carried."""
        return min((one.fresh_at for one in self._programs.values() if one.shared), default=None)

    @property
    def wants_word(self) -> bool:
        """Whether so much is on its way that the broker is to say what it has."""
        return self.unconfirmed > _UNCONFIRMED_BYTES

    def tick(self) -> None:
        """Send what members have written, if it is time."""
        for memory in self._programs.values():
            if memory.shared and self._tables.now >= memory.fresh_at:
                self._flush(memory)

    def leaving(self, program: bytes) -> None:
        """Send the host's writes: something leaves that others may take them from."""
        memory = self._programs.get(program)
        if memory is not None and memory.shared:
            self._flush(memory)

    def leaving_all(self) -> None:
        """Send the writes of all programs: bytes of a stream leave, which is of no known program."""
        for memory in self._programs.values():
            if memory.shared:
                self._flush(memory)

    # What members say

    def map(self, member: Member, message: c.Map, descriptors: list[int]) -> bool:
        """Take a member's new segment, or give it one; false if the message makes no sense."""
        if message.program != member.program or bool(message.size) != (len(descriptors) == 1):
            return False
        if message.size:
            return self._made(member, message, descriptors[0])
        segment = self._segments.get(message.segment)
        if segment is not None and segment.program != member.program:
            return False
        if segment is None or segment.idle:
            segment = segment or self._enter(message.segment, member.program)
            segment.idle = False
            if segment.host is None:
                segment.stage = Stage.ASKED
            wanted = c.Map(member.program, message.segment, 0, 0, None)
            self._tables.repeats.ask(message.segment, MAPPING, wanted)
            self._send(wanted)
            segment.waiting[member.id] = None
        elif self._is_awaited(segment):
            segment.waiting[member.id] = None
        else:
            self._give(segment, member)
        return True

    def unmap(self, member: Member, message: c.Unmap) -> None:
        """A member has let go of a segment."""
        segment = self._segments.get(message.segment)
        if segment is not None and member.id in segment.members:
            self.leaving(segment.program)
            del self._of_member[member.id][segment.key]
            segment.members.discard(member.id)
            self._check_idle(segment)

    def pin(self, member: Member, message: c.Pin) -> None:
        """A member has made a segment known to processes that are not known."""
        if message.segment in self._segments and message.program == member.program:
            pin = c.Pin(member.program, message.segment, self._next())
            self._tables.repeats.tell(pin)
            self._send(pin)

    def let_go(self, member: bytes) -> None:
        """A member has ended."""
        for key in self._of_member.pop(member, {}):
            segment = self._segments[key]
            segment.members.discard(member)
            self._check_idle(segment)

    # The link

    def welcomed(self) -> None:
        """Ask again for what a lost link may have taken."""
        for segment in list(self._segments.values()):
            if segment.idle:
                self._say_unmapped(segment)
            elif segment.stage is Stage.LOADING:
                segment.next_part, segment.parts = 0, 0
                self._fetch(segment)

    def arrived(self, place: int) -> None:
        """The broker has what was said up to a place among all repeats."""
        for segment in list(self._unsure.values()):
            if segment.unsure is not None and segment.unsure <= place:
                self._is_sure(segment)
                self._give_all(segment)
        for memory in self._programs.values():
            have = 0
            while memory.places and next(iter(memory.places.values())) <= place:
                have = next(iter(memory.places))
                del memory.places[have]
            if have:
                for segment in memory.shared.values():
                    segment.forget_way(have)

    def validate(self) -> None:
        """Check the invariants. Raises AssertionError."""
        for key, segment in self._segments.items():
            memory = self._programs[segment.program]
            assert memory.segments[key] is segment, "a segment is of no program"
            assert (key in memory.shared) == (segment.stage is Stage.SHARED), "wrongly shared"
            assert (segment.host is None) == (segment.stage is Stage.ASKED), "memory out of place"
            for member in segment.members:
                assert key in self._of_member[member], "a member's memory is in no index"
                assert member in self._tables.members, "a member that is gone has memory"
            is_coming = segment.stage in (Stage.ASKED, Stage.LOADING)
            assert (segment.unsure is None) == (key not in self._unsure), "an unsure one is lost"
            needed = segment.members or segment.waiting or segment.idle or is_coming
            assert needed, "nothing needs a segment"

    # What the broker says

    def _mapped(self, message: c.Mapped) -> None:
        self._tables.repeats.answered(message.segment, MAPPING)
        segment = self._segments.get(message.segment)
        if segment is None:
            return
        if message.outcome != Outcome.OK or not is_shape(message.shape, message.size):
            self._refuse(segment, message.outcome or Outcome.MALFORMED, message.reason)
            return
        is_here = segment.stage is Stage.SOLE and segment.unsure is None
        if segment.stage is Stage.SHARED or (is_here and (segment.waiting or segment.idle)):
            # It was here all the time.
            self._give_all(segment)
        else:
            self._begin_loading(segment, message)

    def _begin_loading(self, segment: Segment, message: c.Mapped) -> None:
        host = segment.host
        try:
            host = host or self._source.make(message.size)
            host.make_twin()
        except OSError as error:
            if host is not None and segment.host is None:
                host.close()
            self._refuse(segment, Outcome.NO_ROOM, f"this host has no room: {error.strerror}")
            return
        if segment.host is None:
            segment.begin(host, message.size, message.shape)
        self._is_sure(segment)
        segment.stage = Stage.LOADING
        segment.next_part = segment.parts = 0
        self._fetch(segment)

    def _fetch(self, segment: Segment) -> None:
        while segment.parts < _PARTS and segment.next_part < segment.size:
            size = min(_PART_BYTES, segment.size - segment.next_part)
            self._send(c.Fetch(segment.key, segment.next_part, size))
            segment.next_part += size
            segment.parts += 1

    def _load(self, message: c.FetchPart) -> None:
        segment = self._segments.get(message.segment)
        if segment is None or segment.stage is not Stage.LOADING or not segment.parts:
            return
        size = min(_PART_BYTES, segment.size - message.at)
        data = bytes_of(message.bodies[0]) if message.bodies else memoryview(bytes(max(0, size)))
        segment.load(message.at, data)
        segment.parts -= 1
        self._fetch(segment)
        if not segment.parts:
            segment.stage = Stage.SHARED
            self._is_shared(segment)
            self._give_all(segment)

    def _share(self, message: c.Share) -> None:
        """Send all of a segment; from now on the broker has it."""
        segment = self._segments.get(message.segment)
        if segment is None or segment.host is None or segment.stage is Stage.LOADING:
            return
        host = segment.host
        if segment.stage is Stage.SOLE:
            try:
                host.make_twin()
            except OSError:
                self._log("no memory for the twin of a segment: it cannot be shared")
                return
            for begin, end in host.extents():
                host.twin[begin:end] = host.memory[begin:end]
            segment.stage = Stage.SHARED
            self._is_shared(segment)
            if segment.unsure is not None:
                self._is_sure(segment)
                self._give_all(segment)
        for begin, end in host.extents():
            for at in range(begin, end, _PART_BYTES):
                data = bytes(host.twin[at : min(end, at + _PART_BYTES)])
                self._send(c.FetchPart(segment.key, at, False, [data]))
        self._send(c.FetchPart(segment.key, 0, True, []))

    def _apply(self, message: c.Write) -> None:
        memory = self._programs.get(message.program)
        if memory is None:
            return
        for seq in [one for one in memory.places if one <= message.seq]:
            del memory.places[seq]
        for patch in message.patches:
            found = memory.segments.get(patch.segment)
            if found is None or found.host is None or found.stage is Stage.SOLE:
                continue
            found.forget_way(message.seq)
            data, at = bytes_of(patch.data[0]), 0
            for begin, end in unpack_ranges(patch.ranges):
                part = data[at : at + end - begin]
                if found.stage is Stage.LOADING:
                    found.load(begin, part)
                else:
                    found.apply(begin, part)
                at += end - begin

    def _unmapped(self, message: c.Unmap) -> None:
        """Let go of a segment that nothing needs here."""
        segment = self._segments.get(message.segment)
        if segment is not None and segment.idle:
            self._forget(segment)
        elif segment is not None and not segment.members and segment.waiting:
            # A member wants it again: the answer to that comes, with what is there then.
            self._take_memory(segment)

    # Writes

    def _flush(self, memory: _Memory) -> None:
        memory.fresh_at = self._tables.now + memory.period
        patches: list[c.Patch] = []
        ways: list[tuple[Segment, list[Range]]] = []
        size = 0
        for segment in memory.shared.values():
            ranges: list[Range] = []
            data: list[bytes] = []
            for begin, end in segment.changed():
                for at in range(begin, end, _WRITE_BYTES):
                    behind = min(end, at + _WRITE_BYTES)
                    ranges.append((at, behind))
                    data.append(segment.take(at, behind))
                    size += behind - at
                    if size >= _WRITE_BYTES or len(ranges) >= _MAX_RANGES:
                        patches.append(_patch(segment, ranges, data))
                        ways.append((segment, ranges))
                        self._say_written(memory, patches, ways, size)
                        patches, ways, ranges, data, size = [], [], [], [], 0
            if ranges:
                patches.append(_patch(segment, ranges, data))
                ways.append((segment, ranges))
        if patches:
            self._say_written(memory, patches, ways, size)

    def _say_written(
        self,
        memory: _Memory,
        patches: list[c.Patch],
        ways: list[tuple[Segment, list[Range]]],
        size: int,
    ) -> None:
        seq = self._next()
        write = c.Write(memory.program, seq, 0, patches)
        self._tables.repeats.tell(write)
        memory.places[seq] = self._tables.repeats.place
        for segment, ranges in ways:
            segment.add_way(seq, ranges)
        self.unconfirmed += size
        self._send(write)

    # Segments

    def _made(self, member: Member, message: c.Map, descriptor: int) -> bool:
        known = self._segments.get(message.segment)
        if known is not None:
            self._out.append(effects.CloseDescriptors([descriptor]))
            if known.program == member.program and known.host is not None:
                self._has(known, member)
            return True
        if not is_shape(message.shape, message.size):
            return False
        try:
            host = self._source.adopt(descriptor, message.size)
        except (OSError, ValueError):
            # The source has closed the descriptor.
            return True
        segment = self._enter(message.segment, member.program)
        segment.begin(host, message.size, message.shape)
        segment.stage = Stage.SOLE
        self._has(segment, member)
        made = c.Map(member.program, segment.key, self._next(), message.size, message.shape)
        self._tables.repeats.tell(made)
        self._send(made)
        if member.goes_on:
            segment.unsure = self._tables.repeats.place
            self._unsure[segment.key] = segment
        return True

    def _enter(self, key: bytes, program: bytes) -> Segment:
        segment = self._segments[key] = Segment(key, program)
        self._memory(program).segments[key] = segment
        return segment

    def _memory(self, program: bytes) -> _Memory:
        memory = self._programs.get(program)
        if memory is None:
            memory = self._programs[program] = _Memory(program)
        return memory

    def _is_awaited(self, segment: Segment) -> bool:
        """Whether no member can have it before the broker says more."""
        is_asked = self._tables.repeats.is_asked(segment.key, MAPPING)
        is_coming = segment.stage in (Stage.ASKED, Stage.LOADING)
        return is_asked or is_coming or segment.unsure is not None

    def _is_sure(self, segment: Segment) -> None:
        segment.unsure = None
        self._unsure.pop(segment.key, None)

    def _is_shared(self, segment: Segment) -> None:
        memory = self._programs[segment.program]
        if not memory.shared:
            memory.fresh_at = self._tables.now + FRESHNESS
        memory.shared[segment.key] = segment

    def _has(self, segment: Segment, member: Member) -> None:
        segment.idle = False
        segment.members.add(member.id)
        self._of_member.setdefault(member.id, {})[segment.key] = None

    def _give(self, segment: Segment, member: Member) -> None:
        assert segment.host is not None
        self._has(segment, member)
        answer = c.Mapped(
            segment.program, segment.key, Outcome.OK, segment.size, segment.shape_value, ""
        )
        if member.channel is not None:
            fds = (segment.host.descriptor,)
            self._out.append(effects.Tell(member.channel, answer, fds))

    def _give_all(self, segment: Segment) -> None:
        waiting, segment.waiting = segment.waiting, {}
        for name in waiting:
            member = self._tables.members.get(name)
            if member is not None and member.channel is not None:
                self._give(segment, member)
        self._check_idle(segment)

    def _refuse(self, segment: Segment, outcome: int, reason: str) -> None:
        waiting, segment.waiting = segment.waiting, {}
        for name in waiting:
            answer = c.Mapped(segment.program, segment.key, outcome, 0, None, reason)
            self._tables.tell(self._tables.members.get(name), answer)
        if not segment.members:
            self._forget(segment)

    def _check_idle(self, segment: Segment) -> None:
        if segment.members or segment.waiting or segment.idle:
            return
        if segment.stage in (Stage.ASKED, Stage.LOADING):
            # What wanted it is gone; when it is there, it is let go of.
            return
        segment.idle = True
        self._say_unmapped(segment)

    def _say_unmapped(self, segment: Segment) -> None:
        unmap = c.Unmap(segment.program, segment.key, self._next())
        self._tables.repeats.tell(unmap)
        self._send(unmap)

    def _take_memory(self, segment: Segment) -> None:
        host, segment.host = segment.host, None
        segment.stage = Stage.ASKED
        self._is_sure(segment)
        segment.forget_ways()
        self._programs[segment.program].shared.pop(segment.key, None)
        if host is not None:
            host.close()

    def _forget(self, segment: Segment) -> None:
        self._take_memory(segment)
        memory = self._programs[segment.program]
        del self._segments[segment.key], memory.segments[segment.key]
        if not memory.segments:
            del self._programs[segment.program]

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _log(self, text: str) -> None:
        self._out.append(effects.Log(logging.WARNING, text))


def _patch(segment: Segment, ranges: list[Range], data: list[bytes]) -> c.Patch:
    return c.Patch(segment.key, pack_ranges(ranges), [b"".join(data)])
