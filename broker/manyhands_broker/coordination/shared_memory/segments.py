"""Segments of shared memory as the broker knows them, in plain values and back."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from manyhands_shared.coordination.memory.differences import Range, grain_size, pack_ranges
from manyhands_shared.protocol.messages.coordination import Patch
from manyhands_shared.protocol.record import record

#: The writer of what was there before the segment was shared.
NO_WRITER = bytes(16)
_INDEX_BYTES = 8


class Sharing(IntEnum):
    """Where the content of a segment is. The numbers stand in the log."""

    #: On one host alone.
    SOLE = 0
    #: On its way from that host.
    SENT = 1
    #: Here.
    SHARED = 2
    #: It was on a host that is lost.
    LOST = 3


class Grain:
    """A part of a segment that was written: its bytes, and who changed it when."""

    __slots__ = ("data", "last", "others", "writer")

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        #: The clock of its last change, and the agent that it came by.
        self.last = 0
        self.writer = NO_WRITER
        #: The latest clock of a change by any other agent.
        self.others = 0


class Segment:
    """A segment: where it is mapped, and, if it is shared, what is in it."""

    __slots__ = (
        "grain_bytes",
        "grains",
        "hosts",
        "key",
        "names",
        "pinned",
        "program",
        "shape",
        "sharing",
        "since",
        "size",
        "wanted",
    )

    def __init__(self, key: bytes, program: bytes, size: int, shape: Any) -> None:
        self.key = key
        self.program = program
        self.size = size
        self.shape = shape
        self.grain_bytes = grain_size(size)
        self.sharing = Sharing.SOLE
        #: Agents that have it, and whether a member there does.
        self.hosts: dict[bytes, bool] = {}
        #: The program's clock when it was mapped there: what is older was fetched.
        self.since: dict[bytes, int] = {}
        #: Agents that wait until it is here.
        self.wanted: dict[bytes, None] = {}
        self.pinned = False
        self.names: dict[str, None] = {}
        #: What is not zeros, by number.
        self.grains: dict[int, Grain] = {}

    @property
    def needed(self) -> bool:
        """Whether it stays though no member has it."""
        return self.pinned or bool(self.names) or bool(self.wanted)

    def grain(self, index: int) -> Grain:
        """Return a grain to write to."""
        grain = self.grains.get(index)
        if grain is None:
            grain = self.grains[index] = Grain(self.grain_bytes)
        return grain

    def parts(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the grains of a range, each with the part of it in the range."""
        size = self.grain_bytes
        while begin < end:
            index, at = divmod(begin, size)
            behind = min(size, at + end - begin)
            yield index, at, behind
            begin += behind - at

    def read(self, begin: int, end: int) -> bytes:
        """Return what is in a range; empty if all of it is zeros."""
        data = bytearray()
        place = begin
        for index, at, behind in self.parts(begin, end):
            grain = self.grains.get(index)
            if grain is not None:
                data += bytes(place - begin - len(data))
                data += grain.data[at:behind]
            place += behind - at
        if data:
            data += bytes(end - begin - len(data))
        return bytes(data)


class ProgramMemory:
    """The memory of one program."""

    def __init__(self, program: bytes) -> None:
        self.program = program
        #: Counts the writes that the broker has taken.
        self.clock = 0
        self.segments: dict[bytes, Segment] = {}
        self.names: dict[str, bytes] = {}
        #: Grains in the order of their last change.
        self.changed: OrderedDict[tuple[bytes, int], Grain] = OrderedDict()
        #: Of each agent: the last number that it has said, and the clock of what it was sent.
        self.seen: dict[bytes, int] = {}
        self.sent: dict[bytes, int] = {}
        #: How many segments each agent has.
        self.hosts: Counter[bytes] = Counter()
        #: Whether a timer brings the last changes to all hosts.
        self.refreshing = False


@record
class Stale:
    """What a host lacks of a grain."""

    segment: Segment
    index: int
    grain: Grain


def lacking(memory: ProgramMemory, agent: bytes) -> list[Stale]:
    """Return the grains that a host lacks, in order of their change; it counts as sent from now on.

    What a host wrote itself it does not lack, unless another has written in the same grain.
    """
    sent = memory.sent.get(agent, 0)
    if sent == memory.clock:
        return []
    memory.sent[agent] = memory.clock
    found: list[Stale] = []
    for (key, index), grain in reversed(memory.changed.items()):
        if grain.last <= sent:
            break
        segment = memory.segments[key]
        changed = grain.others if grain.writer == agent else grain.last
        since = segment.since.get(agent, 0)
        if changed > max(sent, since) and agent in segment.hosts:
            found.append(Stale(segment, index, grain))
    found.reverse()
    return found


def store(
    memory: ProgramMemory, segment: Segment, begin: int, data: memoryview, agent: bytes
) -> Iterator[int]:
    """Take what was written at `begin`, by an agent, at the present clock; yield the grains."""
    place = 0
    for index, at, behind in segment.parts(begin, begin + len(data)):
        grain = segment.grain(index)
        grain.data[at:behind] = data[place : place + behind - at]
        place += behind - at
        if grain.writer != agent:
            grain.others = grain.last
        grain.writer, grain.last = agent, memory.clock
        memory.changed[segment.key, index] = grain
        memory.changed.move_to_end((segment.key, index))
        yield index


def patches_of(batch: list[Stale]) -> list[Patch]:
    """Return grains as they travel."""
    by_segment: dict[bytes, list[Stale]] = {}
    for stale in batch:
        by_segment.setdefault(stale.segment.key, []).append(stale)
    patches: list[Patch] = []
    for key, some in by_segment.items():
        ranges: list[Range] = []
        data = bytearray()
        for stale in some:
            at = stale.index * stale.segment.grain_bytes
            end = min(at + stale.segment.grain_bytes, stale.segment.size)
            ranges.append((at, end))
            data += stale.grain.data[: end - at]
        patches.append(Patch(key, pack_ranges(ranges), [bytes(data)]))
    return patches


def size_text(size: int) -> str:
    """Return a size for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def segment_record(segment: Segment) -> list[Any]:
    """Return a segment in plain values, but for its grains."""
    return [
        segment.program,
        segment.size,
        segment.shape,
        int(segment.sharing),
        list(segment.hosts.items()),
        list(segment.wanted),
        segment.pinned,
        list(segment.names),
    ]


def restored_segment(key: bytes, payload: list[Any]) -> Segment:
    """Return the segment of a record."""
    program, size, shape, sharing, hosts, wanted, pinned, names = payload
    segment = Segment(key, program, size, shape)
    segment.sharing = Sharing(sharing)
    segment.hosts = dict(hosts)
    segment.wanted = dict.fromkeys(wanted)
    segment.pinned = pinned
    segment.names = dict.fromkeys(names)
    return segment


def grain_key(segment: bytes, index: int) -> bytes:
    """Return the key of a grain's record."""
    return segment + index.to_bytes(_INDEX_BYTES, "big")


def grain_of(key: bytes) -> tuple[bytes, int]:
    """Return the segment and number of a grain's record."""
    return key[:-_INDEX_BYTES], int.from_bytes(key[-_INDEX_BYTES:], "big")


def grain_record(grain: Grain) -> list[Any]:
    """Return a grain in plain values."""
    return [grain.last, grain.writer, grain.others, bytes(grain.data)]


def restored_grain(payload: list[Any]) -> Grain:
    """Return the grain of a record."""
    last, writer, others, data = payload
    grain = Grain(0)
    grain.data, grain.last, grain.writer, grain.others = bytearray(data), last, writer, others
    return grain
