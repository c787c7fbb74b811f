"""Segments side by side in few files, for each file costs a descriptor at lender and borrower."""

from __future__ import annotations

import mmap
import os
import threading
from dataclasses import dataclass, field

from manyhands_shared.processes.descriptors import NO_DESCRIPTOR, scarce
from manyhands_shared.shm.mapping import forget
from manyhands_shared.shm.segment import new_file, new_segment

#: Bytes of a file for many segments, which takes memory for those in it alone.
FILE_BYTES = 64 << 20
#: A larger segment has a file of its own.
LARGEST = 8 << 20
_PAGE = mmap.PAGESIZE


@dataclass(slots=True)
class _File:
    fd: int
    #: (start, end) of what is free, in order.
    gaps: list[tuple[int, int]] = field(default_factory=lambda: [(0, FILE_BYTES)])


@dataclass(frozen=True, slots=True)
class Allocation:
    """A segment: it begins `at` bytes into the file behind `fd`."""

    fd: int
    at: int
    size: int


class Arena:
    """Gives out room for segments, on any thread."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._lock = threading.Lock()

    def place(self, size: int) -> Allocation | None:
        """Room for a segment; None: there are too few descriptors left for another file.

        Raises:
            OSError: the system has no memory for it.
        """
        try:
            if size > LARGEST:
                allocation = Allocation(new_segment(size), 0, size)
            else:
                with self._lock:
                    allocation = self._beside_others(-(-size // _PAGE) * _PAGE)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                return None
            raise
        if scarce(allocation.fd):
            self.free(allocation)
            return None
        return allocation

    def free(self, allocation: Allocation) -> None:
        """Take the room of a segment back: neither side has a view of it."""
        with self._lock:
            file = self._files.get(allocation.fd)
            if file is None:
                os.close(allocation.fd)
                return
            file.gaps = _joined([*file.gaps, (allocation.at, allocation.at + allocation.size)])
            if file.gaps == [(0, FILE_BYTES)]:
                del self._files[allocation.fd]
                os.close(allocation.fd)
            else:
                # If that cannot be, the memory serves the next segment here.
                forget(allocation.fd, allocation.size, allocation.at)

    def _beside_others(self, size: int) -> Allocation:
        for file in reversed(self._files.values()):
            for number, (start, end) in enumerate(file.gaps):
                if end - start >= size:
                    os.posix_fallocate(file.fd, start, size)
                    file.gaps[number : number + 1] = (
                        [(start + size, end)] if end - start > size else []
                    )
                    return Allocation(file.fd, start, size)
        file = _File(new_file(FILE_BYTES))
        try:
            os.posix_fallocate(file.fd, 0, size)
        except OSError:
            os.close(file.fd)
            raise
        self._files[file.fd] = file
        file.gaps = [(size, FILE_BYTES)]
        return Allocation(file.fd, 0, size)


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(gaps):
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined
