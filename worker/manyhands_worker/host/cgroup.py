"""What the control group of this process allows it: processor time and memory, versions 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_ROOT = "/sys/fs/cgroup"
#: Version 1 has no "none": a limit beyond this is none.
_NO_LIMIT = 1 << 60
#: Less than this, or than an eighth of all, is little memory.
_LITTLE = 1 << 30


def memory_files(*names: str) -> list[str]:
    """Files of the memory controller of this process's group, innermost group first."""
    return [f"{group}/{name}" for group in _groups("memory") for name in names]


def memory_limit() -> int | None:
    """Bytes that the processes of this group may have together, or None."""
    found = []
    for path in memory_files("memory.max", "memory.limit_in_bytes"):
        text = _read(path)
        if text.isdigit() and int(text) < _NO_LIMIT:
            found.append(int(text))
    return min(found, default=None)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its group's limit."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory, memory_limit() or memory)


def memory_room() -> int | None:
    """Bytes that the processes of this group can still have before its limit, or None.

    File pages out of use count as room: the kernel gives them up first.
    """
    found = []
    for group in _groups("memory"):
        for limit, usage in (
            ("memory.max", "memory.current"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, used = _read(f"{group}/{limit}"), _read(f"{group}/{usage}")
            if most.isdigit() and int(most) < _NO_LIMIT and used.isdigit():
                found.append(int(most) - int(used) + _idle_pages(group))
    return max(0, min(found)) if found else None


def is_memory_short() -> bool:
    """Whether little is left of what this process may use, in its group or on the machine."""
    room = memory_room()
    if room is None:
        room = _available()
    return room is not None and room < min(usable_memory() // 8, _LITTLE)


def _available() -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        name, _, size = line.partition(":")
        if name == "MemAvailable":
            return int(size.split()[0]) << 10
    return None


def _idle_pages(group: str) -> int:
    for line in _read(f"{group}/memory.stat").splitlines():
        name, _, size = line.partition(" ")
        if name == "inactive_file":
            return int(size)
    return 0


def cpu_limit() -> float | None:
    """Cores that the processes of this group may use together, or None."""
    found = []
    for group in _groups("cpu"):
        quota, _, period = _read(f"{group}/cpu.max").partition(" ")  # version 2
        if not period:
            quota = _read(f"{group}/cpu.cfs_quota_us")
            period = _read(f"{group}/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _groups(controller: str, root: str = "", proc: str = "/proc/self/cgroup") -> Iterator[str]:
    """Directories of this process's groups that bear on a controller, each before its parents.

    In a container, the paths may be those of the host and not be there; the roots are tried at last.
    """
    root = root or _ROOT
    with suppress(OSError):
        for line in Path(proc).read_text(encoding="utf-8").splitlines():
            number, names, path = line.split(":", 2)
            if number == "0" and not names:
                tops = (root, f"{root}/unified")
            elif controller in names.split(","):
                tops = (f"{root}/{names}", f"{root}/{controller}")
            else:
                continue
            for top in dict.fromkeys(tops):
                if os.path.isdir(top):  # noqa: PTH112 - read in an instant at every start
                    here = PurePosixPath(path)
                    yield from (f"{top}{group}".rstrip("/") for group in (here, *here.parents))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
