"""Control groups that hold a task to its limit of memory: the kernel lets it have no more.

In version 2 these are the groups that `child_cgroups` makes, where memory is delegated to them. In
version 1 memory has a tree of its own, which a child enters with its first task that has a limit.

The limit holds while a task's function runs. What its child has in shared memory by then is results of
earlier tasks, and does not count. A result is written behind that time, for it may lie in such memory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhands_worker.host.cgroup import memory_files
from manyhands_worker.host.child_cgroups import removed, sweep, tidy

#: The limit, and what stands for none, in versions 2 and 1.
_FILES = (("memory.max", "max"), ("memory.limit_in_bytes", "-1"))
#: A group is not to swap, and all of it is killed at once.
_RULES = (("memory.swap.max", "0"), ("memory.oom.group", "1"), ("memory.swappiness", "0"))


class MemoryGroups:
    """The groups of a node's children.

    Args:
        path: the directory above them.
        owned: it is there as soon as a child needs it, and is removed here.
    """

    def __init__(self, path: Path, *, owned: bool) -> None:
        self.path = path
        self._owned = owned
        self._leaving: list[Path] = []

    @classmethod
    def make(cls, children: Path | None) -> MemoryGroups | None:
        """Return those below `children`, of version 2; else of version 1. None: neither may be."""
        if children is not None and "memory" in _read(children / "cgroup.subtree_control").split():
            return cls(children, owned=False)
        here = next(filter(Path.exists, map(Path, memory_files("memory.limit_in_bytes"))), None)
        # Else it would be outside of the limit of this group.
        if here is None or _read(here.with_name("memory.use_hierarchy")).strip() != "1":
            return None
        if not os.access(here.parent, os.W_OK):
            return None
        tidy(here.parent)
        name = f"manyhands-{os.getpid()}-{secrets.token_hex(4)}"
        return cls(here.with_name(name), owned=True)

    def leave(self, pid: int) -> None:
        """Remove the group of a dead child, now or later."""
        if self._owned:
            self._leaving.append(self.path / str(pid))
            self._leaving = [place for place in self._leaving if not removed(place)]

    def close(self) -> None:
        """Remove all of them: every child is dead."""
        if self._owned:
            sweep(self.path)


class MemoryGroup:
    """The control group of one child."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def kills(self) -> int:
        """How many of its processes the kernel has killed for lack of memory."""
        for name in ("memory.events", "memory.oom_control"):
            for line in _read(self.path / name).splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0


class MemoryCap(MemoryGroup):
    """The group of this process, by which it holds tasks to a limit.

    Args:
        path: where it is, or is to be.
        limit: bytes that a task may have.
    """

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(Path(path))
        self._limit = limit
        self._pid = os.getpid()
        with contextlib.suppress(OSError):
            if not self.path.exists():
                self.path.mkdir(parents=True)
                (self.path / "cgroup.procs").write_text(str(self._pid))
        for name, value in _RULES:
            self._write(name, value)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function that may have no more than the limit."""
        before = self.kills
        self._set(str(self._limit + self._shared()))
        try:
            return function(*args, **kwargs)
        finally:
            if os.getpid() == self._pid:
                self._set(None)
                if self.kills > before:
                    # A process that the task has started was, which is the end of the task.
                    os.kill(self._pid, signal.SIGKILL)

    def _set(self, limit: str | None) -> None:
        for name, none in _FILES:
            self._write(name, none if limit is None else limit)

    def _write(self, name: str, value: str) -> None:
        # Not there, in the other version; or more is in use, and the node's watch ends the task.
        with contextlib.suppress(OSError), (self.path / name).open("r+") as file:
            file.write(value)

    def _shared(self) -> int:
        for line in _read(self.path / "memory.stat").splitlines():
            key, _, value = line.partition(" ")
            if key == "shmem":
                return int(value)
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
