"""Whether a file is as it was when it was read."""

from __future__ import annotations

import os

#: File systems note times by the kernel's ticks of up to 10 ms, or by whole seconds, or pairs of them.
_TICKS_NS, _WHOLE_NS = 50_000_000, 2_100_000_000


def signature(path: str) -> tuple[int, int, int] | None:
    """Return what changes with a file: its time, its size and its number; None if it is not there.

    The time is the system's own note of the last change. Programs set the other one as they like, to the
    future too.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - for every file, again and again
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino


def is_recent(changed: int, now: int) -> bool:
    """Whether a file may change again and keep its time: clocks of file systems are coarse."""
    return now - changed < (_WHOLE_NS if changed % 1_000_000_000 == 0 else _TICKS_NS)
