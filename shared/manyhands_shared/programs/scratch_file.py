"""Files without names that take the outputs of programs, one program after the other.

To make one costs 20 µs, more than all else that a program's start takes beside the system's own part. So
a file is used again. Each program has an *open file* of its own: its offset is 0, and it shares nothing
with the next one's. A program may hand its open file to a server, which writes to it later. So a file
that is still open elsewhere when its program has ended is never used again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from typing import Any

if sys.platform == "linux":
    import fcntl

    def _is_open_elsewhere(fd: int) -> bool:
        """Whether another open file leads there: the system grants a lease to the only one."""
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return True
        return False

else:

    def _is_open_elsewhere(_: int) -> bool:
        """Cannot be known here."""
        return True


class ScratchFile:
    """One such file; made when it is needed."""

    def __init__(self) -> None:
        self._fd = -1
        self._opens_again = False
        self._path = ""
        #: What the program has that runs now.
        self._given = -1
        self._is_clean = True

    def open(self) -> int:
        """Return its descriptor, which is that of an empty file."""
        if self._fd < 0:
            self._fd = make()
            self._path = f"/proc/self/fd/{self._fd}"
            self._opens_again = _opens_again(self._path)
        return self._fd

    def action(self, place: int) -> tuple[Any, ...]:
        """Return what has `os.posix_spawn` give it, empty, to a program as descriptor `place`."""
        fd = self.open()
        self._is_clean = False
        if self._opens_again:
            # Here and not in the new process, for which the system would make a directory of /proc.
            fd = self._given = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        return os.POSIX_SPAWN_DUP2, fd, place

    def take(self, most: int) -> bytes:
        """Return what a program has written; empty the file for the next, or let go of it.

        Raises:
            OverflowError: with its size, which is more than `most`.
        """
        self._take_back()
        # First, so that nothing is written between the look at the size and the cut.
        is_ours = self._opens_again and not _is_open_elsewhere(self._fd)
        size = os.fstat(self._fd).st_size
        if size > most:
            raise OverflowError(size)
        found = _read(self._fd, size) if size else b""
        if not is_ours:
            self.close()
        elif size:
            os.ftruncate(self._fd, 0)
        self._is_clean = True
        return found

    def drop(self) -> None:
        """Let go of what was not taken."""
        if not self._is_clean:
            self.close()

    def close(self) -> None:
        """Let go of it."""
        self._take_back()
        fd, self._fd, self._is_clean = self._fd, -1, True
        if fd >= 0:
            os.close(fd)

    def _take_back(self) -> None:
        fd, self._given = self._given, -1
        if fd >= 0:
            os.close(fd)


def _read(fd: int, size: int) -> bytes:
    found = os.pread(fd, size, 0)
    while len(found) < size and (part := os.pread(fd, size - len(found), len(found))):
        found += part
    return found


def make() -> int:
    """Make a file without a name, on the disk of temporary files: an output may be large."""
    flags = os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_TMPFILE", 0)
    try:
        if not hasattr(os, "O_TMPFILE"):
            raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE")
        return os.open(tempfile.gettempdir(), flags, 0o600)
    except OSError:
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())


def _opens_again(path: str) -> bool:
    """Whether a program can have an open file of its own; not where there is no /proc."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return sys.platform == "linux"
    return False
