"""Whether the kernel has killed processes here for lack of memory.

It leaves no trace on the process itself, which dies of SIGKILL like any other. But it counts: for
each control group (`memory.events` in version 2, `memory.oom_control` in version 1), and for the
whole host in `/proc/vmstat`.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress

from manyhands_worker.host.cgroup import memory_files

#: A kill that was counted this many seconds ago is not that of a child which died just now.
_RECENT_SECONDS = 2.0


class OomDetector:
    """Compares the count of such kills with what it was a moment ago."""

    def __init__(self, files: list[str] | None = None) -> None:
        """`files` are counters to read, the nearest first; the first that can be read is taken."""
        if files is None:
            files = [
                *memory_files("memory.events", "memory.oom_control"),
                "/proc/vmstat",
            ]
        self._fd = -1
        #: The counter is that of the whole host: a kill may have hit something else.
        self.vague = False
        for path in files:
            with suppress(OSError):
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if self._read() is not None:
                    self.vague = path == "/proc/vmstat"
                    break
                self.close()
        self._seen: deque[tuple[float, int]] = deque([(0.0, self._read() or 0)])

    def _read(self) -> int | None:
        if self._fd < 0:
            return None
        with suppress(OSError, ValueError):
            for line in os.pread(self._fd, 16_384, 0).split(b"\n"):
                name, _, value = line.partition(b" ")
                if name == b"oom_kill":
                    return int(value)
        return None

    @property
    def words(self) -> str:
        """How a child was killed whose death this explains."""
        maybe = "probably " if self.vague else ""
        return f"was {maybe}killed by the kernel for lack of memory (OOM)"

    def note(self, now: float) -> None:
        """Remember the count as it is now; called now and then while children are at work."""
        count = self._read()
        if count is not None:
            self._seen.append((now, count))
            while len(self._seen) > 1 and self._seen[1][0] <= now - _RECENT_SECONDS:
                self._seen.popleft()

    def explains(self, now: float) -> bool:
        """Whether a child that died of SIGKILL just now was killed for lack of memory."""
        self.note(now)
        if self._seen[-1][1] <= self._seen[0][1]:
            return False
        # One kill explains one death.
        self._seen = deque((at, count + (count < self._seen[-1][1])) for at, count in self._seen)
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
