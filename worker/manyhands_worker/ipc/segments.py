"""Segments: memory for results that are fetched from where they lie, by the client itself.

A child writes such a result into a segment of its own (see `manyhands_shared.shm`) and hands the
descriptor to the node with its report. The node lends it to the client, which maps it. When the client
has no view of it any more, the node marks the segment free. Then the child writes the next result into
the same memory. A copy into pages that are there is ten times as fast as one into fresh pages.

The marks are the only thing that node and child share. Each segment has one byte, which the child sets
before it writes, and the node clears. With one more byte the node says that it can hold no results
just now.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any

from manyhands_shared import shm

#: Segments of one child.
COUNT = 64
#: The mark that says that there is no room with the node.
SHUT = COUNT
#: The smallest result that is worth it, in bytes: below, a message costs less than borrowing.
MIN_BYTES = 256 << 10
_PAGE = mmap.PAGESIZE
#: A free segment serves for a result of at least this part of its size.
_FIT = 4


def new_marks() -> Any:
    """The shared marks of one child, handed to it when it starts."""
    return RawArray("B", COUNT + 1)


class SegmentWriter:
    """The child's side.

    Args:
        marks: from `new_marks`.
        budget: bytes that all its segments may take, those that are lent too.
    """

    def __init__(self, marks: Any, budget: int) -> None:
        self._marks = memoryview(marks).cast("B")
        self._budget = budget
        self._segments: dict[int, tuple[int, mmap.mmap]] = {}

    def write(self, parts: Sequence[memoryview]) -> tuple[int, int] | None:
        """Copy flat buffers into a segment; returns its number and descriptor.

        None: there is no room, or the result is too small to be worth it.
        """
        size = shm.span(part.nbytes for part in parts)
        if size < MIN_BYTES or self._marks[SHUT]:
            return None
        number = self._find(size)
        if number is None:
            return None
        self._marks[number] = 1
        fd, memory = self._segments[number]
        with memoryview(memory) as view:
            shm.lay(view, parts)
        return number, fd

    def tidy(self) -> None:
        """Keep no free segments while the node has no room."""
        if self._marks[SHUT]:
            for number in [n for n in self._segments if not self._marks[n]]:
                self._drop(number)

    def _find(self, size: int) -> int | None:
        """A free segment of at least `size` bytes, an old one if there is."""
        free = [n for n in self._segments if not self._marks[n]]
        fitting = [n for n in free if size <= len(self._segments[n][1]) <= _FIT * size]
        if fitting:
            return min(fitting, key=lambda n: len(self._segments[n][1]))
        size = -(-size // _PAGE) * _PAGE
        while free and self._nbytes + size > self._budget:
            self._drop(free.pop())
        if self._nbytes + size > self._budget:
            return None
        empty = next((n for n in range(COUNT) if n not in self._segments), None)
        if empty is None:
            if not free:
                return None
            empty = free.pop()
            self._drop(empty)
        try:
            fd = shm.new_segment(size)
            self._segments[empty] = fd, shm.map_segment(fd, size, 0, shared=True, writable=True)
        except (OSError, ValueError):
            return None  # no memory, or no descriptor: the result finds another way
        return empty

    @property
    def _nbytes(self) -> int:
        return sum(len(memory) for _, memory in self._segments.values())

    def _drop(self, number: int) -> None:
        fd, memory = self._segments.pop(number)
        memory.close()
        os.close(fd)
