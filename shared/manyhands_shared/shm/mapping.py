"""Mapping segments without keeping a descriptor.

Before Python 3.13, `mmap.mmap` keeps a copy of the descriptor for as long as the memory lives. A client
that keeps a thousand results would have none left. So memory without a file is mapped, and the segment
over it.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
from typing import Any

_MAP_FIXED = 0x10
_MADV_POPULATE_WRITE = 23  # Linux 5.14


def map_segment(fd: int, size: int, at: int, *, shared: bool, writable: bool) -> mmap.mmap:
    """Map `size` bytes from `at` on. Memory that is not `writable` must not be written to.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, flags=flags, prot=protection, offset=at, trackfd=False)
    if os.fstat(fd).st_size < at + size:
        raise ValueError("a mapping beyond the end of its file")
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Not above: it takes 3 ms to load, and many clients map nothing.
    import ctypes  # noqa: PLC0415

    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _mmap()(address, size, protection, flags | _MAP_FIXED, fd, at) != address:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return memory


def make_own(memory: mmap.mmap) -> bool:
    """Copy what is mapped privately, so that its file is needed no more; false if that cannot be.

    The kernel copies each page as for a write. Who reads or writes meanwhile notices nothing.
    """
    try:
        memory.madvise(_MADV_POPULATE_WRITE)
    except (OSError, ValueError):
        return False
    return True


def forget(fd: int, size: int, at: int = 0) -> None:
    """Give the memory of a part of a file back to the system; if that cannot be, it stays as it is."""
    try:
        with mmap.mmap(fd, size, offset=at) as memory:
            memory.madvise(mmap.MADV_REMOVE)
    except (OSError, ValueError):
        return


@functools.cache
def _mmap() -> Any:
    import ctypes  # noqa: PLC0415

    function = ctypes.CDLL(None, use_errno=True).mmap
    number, long = ctypes.c_int, ctypes.c_long
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, long]
    function.restype = ctypes.c_void_p
    return function
