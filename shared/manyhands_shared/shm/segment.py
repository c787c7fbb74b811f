"""Segments: where buffers lie in them, and how they are made."""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from manyhands_shared.processes.boot import boot_id

#: Whether this system has what lending takes.
AVAILABLE = sys.platform == "linux"

#: Buffers begin at multiples of this.
ALIGN = 64
_NETWORK = "/proc/self/ns/net"


def new_segment(size: int) -> int:
    """A descriptor of `size` fresh bytes in memory, all of them there.

    Raises:
        OSError: the system does not give them.
    """
    fd = new_file(size)
    try:
        # Now, and not with the first write, is the time to learn that there is no memory.
        os.posix_fallocate(fd, 0, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def new_file(size: int) -> int:
    """A descriptor of a file of `size` bytes that takes no memory yet.

    Raises:
        OSError: the system does not give one.
    """
    fd = os.memfd_create("manyhands", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        # A process that maps it may rely on its size.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd


def fits(fd: int, size: int, at: int = 0) -> bool:
    """Whether a descriptor from elsewhere has a segment of `size` bytes `at` a page, and keeps it."""
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        return bool(sealed) and not at % mmap.PAGESIZE and os.fstat(fd).st_size >= at + size
    except OSError:
        return False


def span(lengths: Iterable[int]) -> int:
    """Bytes that buffers of these lengths take in a segment."""
    return sum(map(_aligned, lengths))


def cut(memory: memoryview, lengths: Sequence[int]) -> tuple[memoryview, ...]:
    """Views of the buffers that lie at the start of `memory`, one behind the other."""
    views = []
    at = 0
    for length in lengths:
        views.append(memory[at : at + length])
        at += _aligned(length)
    return tuple(views)


def lay(memory: memoryview, parts: Sequence[memoryview]) -> None:
    """Copy flat buffers to where `cut` finds them."""
    # NumPy copies without holding the interpreter lock; where it is not loaded, it is not worth
    # 100 ms to load it.
    numpy = sys.modules.get("numpy")
    for target, part in zip(cut(memory, [part.nbytes for part in parts]), parts, strict=True):
        if numpy is None or not part.nbytes:
            target[:] = part
        else:
            numpy.copyto(numpy.frombuffer(target, dtype="u1"), numpy.frombuffer(part, dtype="u1"))


@functools.cache
def host_id() -> str:
    """Equal for processes that can reach each other's abstract sockets; empty if none can be."""
    if not (AVAILABLE and (boot := boot_id())):
        return ""
    try:
        # The network namespace, for abstract sockets live in one.
        place = f"{boot}/{Path(_NETWORK).stat().st_ino}/{os.geteuid()}"
        # Two hosts on one machine, for tests.
        return place + os.environ.get("MANYHANDS_TEST_HOST", "")
    except OSError:
        return ""


def _aligned(length: int) -> int:
    return -(-length // ALIGN) * ALIGN
