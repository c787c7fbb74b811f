"""Whether a file is as it was when it was read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

#: The time of a file's last change in ns, its size in bytes, its number.
Signature: TypeAlias = tuple[int, int, int]

#: File systems note times by the kernel's ticks of up to 10 ms, or by whole seconds, or pairs of them.
_TICKS_NS, _WHOLE_NS = 50_000_000, 2_100_000_000


def signature(path: str) -> Signature | None:
    """Return what changes with a file: its time, its size and its number; None if it is not there.

    The time is the system's own note of the last change. Programs set the other one as they like, to the
    future too.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - for every file, again and again
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino


def are_unchanged(files: Iterable[tuple[str, Signature | None]]) -> bool:
    """Whether each of these files is there, and has its signature still; not if one has none."""
    try:
        for path, known in files:
            if known is None:
                return False
            found = os.stat(path)  # noqa: PTH116 - as above
            changed, size, number = known
            if found.st_ctime_ns != changed or found.st_size != size or found.st_ino != number:
                return False
    except OSError:
        return False
    return True


def is_recent(changed: int, now: int) -> bool:
    """Whether a file may change again and keep its time: clocks of file systems are coarse."""
    return now - changed < (_WHOLE_NS if changed % 1_000_000_000 == 0 else _TICKS_NS)
