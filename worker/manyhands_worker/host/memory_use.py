"""What processes hold in memory of their own."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def private_bytes(pids: Collection[int]) -> int:
    """Return the bytes of anonymous memory that processes hold, what they share once for each.

    Files and shared memory are left out: what is mapped is not theirs alone, and may be given up.
    """
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            figures = Path(f"/proc/{pid}/statm").read_text("ascii").split()
            total += max(0, int(figures[1]) - int(figures[2])) * _PAGE_BYTES
    return total


def proportional_bytes(pids: Collection[int]) -> int:
    """Return the same with what they share counted once in all; slow, for it looks at every page."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
                name, _, size = line.partition(":")
                if name == "Pss_Anon":
                    total += int(size.split()[0]) << 10
    return total
