"""Real memory behind the segments of a host: a `memfd` that members map too, and a private twin."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

from manyhands_shared.coordination.memory import thread_fence
from manyhands_shared.shm import segment
from manyhands_shared.shm.mapping import map_segment


class HostMemory:
    """See `core.memory.segment.HostMemory`.

    Args:
        descriptor: of the segment, which belongs to this object from now on.
        size: its bytes.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self._size = size
        try:
            self._mapped = map_segment(descriptor, size, 0, shared=True, writable=True)
        except BaseException:
            os.close(descriptor)
            raise
        self.memory = memoryview(self._mapped)
        self.twin = memoryview(b"")
        self._address = _address(self._mapped)
        self._twin_address = 0

    def make_twin(self) -> None:
        """See `core.memory.segment.HostMemory`."""
        twin = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.twin = memoryview(twin)
        self._twin_address = _address(twin)

    def is_same(self, at: int, size: int) -> bool:
        """See `core.memory.segment.HostMemory`."""
        return not _memcmp(self._address + at, self._twin_address + at, size)

    def extents(self) -> Iterator[tuple[int, int]]:
        """See `core.memory.segment.HostMemory`."""
        at = 0
        while at < self._size:
            try:
                at = os.lseek(self.descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    # There is nothing but zeros behind.
                    return
                raise
            end = min(os.lseek(self.descriptor, at, os.SEEK_HOLE), self._size)
            yield at, end
            at = end

    def close(self) -> None:
        """See `core.memory.segment.HostMemory`."""
        # The mappings go with the last reference.
        self.memory = self.twin = memoryview(b"")
        os.close(self.descriptor)


class HostMemories:
    """See `core.memory.segment.Source`."""

    def fence(self) -> None:
        """See `core.memory.segment.Source`."""
        thread_fence.fence()

    def adopt(self, descriptor: int, size: int) -> HostMemory:
        """See `core.memory.segment.Source`."""
        if not segment.fits(descriptor, size):
            os.close(descriptor)
            raise ValueError("a descriptor of no segment of this size")
        return HostMemory(descriptor, size)

    def make(self, size: int) -> HostMemory:
        """See `core.memory.segment.Source`."""
        return HostMemory(segment.new_file(size), size)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _find_memcmp() -> Callable[[int, int, int], int]:
    found: Any = ctypes.CDLL(None).memcmp
    found.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    found.restype = ctypes.c_int
    return found  # type: ignore[no-any-return]


_memcmp = _find_memcmp()
