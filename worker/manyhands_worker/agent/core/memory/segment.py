"""One segment of shared memory on this host: the memory itself, and what the broker is known to have.

The memory is written by members at any time, without a word. Its *twin* has what the broker has of it.
Where they differ, a member has written since the last flush.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from manyhands_shared.coordination.memory.differences import (
    BLOCK_BYTES,
    PAGE_BYTES,
    Range,
    differing,
    items,
    whole_items,
)
from manyhands_shared.coordination.memory.shape import Shape, shape_of


class HostMemory(Protocol):
    """The memory of a segment on this host, and its twin once there is one."""

    #: To be sent to members.
    descriptor: int
    memory: memoryview
    twin: memoryview

    def make_twin(self) -> None:
        """Make a twin of zeros.

        Raises:
            OSError: the system has no memory for it.
        """

    def is_same(self, at: int, size: int) -> bool:
        """Return whether memory and twin are equal in a range."""

    def extents(self) -> Iterator[Range]:
        """Yield the ranges of the memory that are not known to be zeros."""

    def close(self) -> None:
        """Let go of it."""


class Source(Protocol):
    """Where memory comes from."""

    def fence(self) -> None:
        """Have all threads of members here pass a fence; see `thread_fence`.

        Raises:
            OSError: the system cannot do that.
        """

    def adopt(self, descriptor: int, size: int) -> HostMemory:
        """Return the memory behind a member's descriptor, which is taken over.

        Raises:
            OSError, ValueError: it is no such memory.
        """

    def make(self, size: int) -> HostMemory:
        """Return fresh memory.

        Raises:
            OSError: the system has none.
        """


class Stage(Enum):
    """How far a segment is here."""

    #: The broker was asked for it.
    ASKED = "asked"
    #: It is being fetched.
    LOADING = "loading"
    #: It is here, and on no other host.
    SOLE = "sole"
    #: It is here, and at the broker.
    SHARED = "shared"


@dataclass(slots=True)
class Segment:
    """A segment on this host."""

    key: bytes
    program: bytes
    stage: Stage = Stage.ASKED
    size: int = 0
    shape_value: Any = None
    shape: Shape = field(default_factory=lambda: shape_of(1))
    host: HostMemory | None = None
    #: Members that have it, and those that wait for it.
    members: set[bytes] = field(default_factory=set)
    waiting: dict[bytes, None] = field(default_factory=dict)
    #: The broker was told that no member has it.
    idle: bool = False
    #: Its maker has lived under another agent, so the broker may have other content and say so. Else it
    #: says nothing, but that it has all that was said up to this place among the repeats.
    unsure: int | None = None
    #: Where the next part begins that is fetched, and how many are on their way.
    next_part: int = 0
    parts: int = 0
    #: Of what was written here: ranges that the broker is not known to have, by the number of the write.
    on_their_way: dict[int, list[Range]] = field(default_factory=dict)
    #: The same, joined and in order, where that is known.
    _ways: list[Range] | None = None

    def begin(self, host: HostMemory, size: int, shape: Any) -> None:
        """Have memory here."""
        self.host, self.size = host, size
        self.shape_value, self.shape = shape, shape_of(shape)

    def changed(self) -> Iterator[Range]:
        """Yield what members have written since the last flush, in whole items."""
        host = self.host
        assert host is not None
        return whole_items(host.memory, self.shape, self._differing(host))

    def take(self, begin: int, end: int) -> bytes:
        """Return what is in a range; the broker is about to have it."""
        assert self.host is not None
        data = bytes(self.host.memory[begin:end])
        self.host.twin[begin:end] = data
        return data

    def load(self, at: int, data: memoryview) -> None:
        """Take a part of the content as it is at the broker."""
        assert self.host is not None
        end = min(at + len(data), self.size)
        self.host.memory[at:end] = data[: end - at]
        self.host.twin[at:end] = data[: end - at]

    def apply(self, begin: int, data: memoryview) -> None:
        """Take what others have written.

        What differs from the twin was written elsewhere. It is not taken where a write of this host
        is on its way, which comes later in the broker's order. Nor does it undo what was written here
        since the last flush: that is sent with the next one.
        """
        host = self.host
        assert host is not None
        end = min(begin + len(data), self.size)
        new, old = bytes(data[: end - begin]), bytes(host.twin[begin:end])
        if new == old:
            return
        found = [(begin + one, begin + two) for one, two in differing(new, old, 1)]
        for wide in whole_items(host.memory, self.shape, found):
            first, behind = max(wide[0], begin), min(wide[1], end)
            parts: Iterable[Range] = ((first, behind),)
            if not self._is_free(first, behind) or not host.is_same(first, behind - first):
                parts = items(host.memory, self.shape, (first, behind))
            for one, two in parts:
                if self._is_free(one, two):
                    part = new[one - begin : two - begin]
                    if host.is_same(one, two - one):
                        host.memory[one:two] = part
                    host.twin[one:two] = part

    def add_way(self, seq: int, ranges: list[Range]) -> None:
        """What was written in these ranges is on its way to the broker."""
        self.on_their_way[seq] = ranges
        self._ways = None

    def forget_way(self, seq: int) -> None:
        """The broker has the writes up to this number."""
        while self.on_their_way and next(iter(self.on_their_way)) <= seq:
            del self.on_their_way[next(iter(self.on_their_way))]
            self._ways = None

    def forget_ways(self) -> None:
        """The memory is gone, and with it what was written here."""
        self.on_their_way.clear()
        self._ways = None

    def _is_free(self, begin: int, end: int) -> bool:
        """Whether nothing of a range is on its way to the broker."""
        if not self.on_their_way:
            return True
        if self._ways is None:
            self._ways = _joined(one for ranges in self.on_their_way.values() for one in ranges)
        place = bisect_left(self._ways, (end, 0))
        return not place or self._ways[place - 1][1] <= begin

    def _differing(self, host: HostMemory) -> Iterator[Range]:
        for block in range(0, self.size, BLOCK_BYTES):
            size = min(BLOCK_BYTES, self.size - block)
            if host.is_same(block, size):
                continue
            for page in range(block, block + size, PAGE_BYTES):
                end = min(page + PAGE_BYTES, self.size)
                if host.is_same(page, end - page):
                    continue
                new, old = bytes(host.memory[page:end]), host.twin[page:end]
                unit = self.shape.unit if (end - page) % self.shape.unit == 0 else 1
                for begin, behind in differing(new, old, unit):
                    yield page + begin, page + behind


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in order; those that touch are one."""
    joined: list[Range] = []
    for begin, end in sorted(ranges):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined
