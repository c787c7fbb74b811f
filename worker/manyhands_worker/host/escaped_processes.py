"""Processes that tasks have started and that have left the process group of their child.

They are looked for now and then below the children. The node adopts those whose parents end before
them (a *subreaper*), so that they are found below itself. When their child or the node ends, they are
killed by their process groups. One that is started and orphaned between two looks may be missed, if the
node is killed then: only control groups (`child_cgroups`) are sure.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from manyhands_shared.processes.lifecycle import adopt_orphans
from manyhands_worker.host.processes import kill_orphans


class EscapedProcesses:
    """Process groups of strays, and which child each was seen below; 0: the node itself."""

    #: There is no control group.
    path: Path | None = None

    def __init__(self) -> None:
        adopt_orphans(on=True)
        self._groups: dict[int, int] = {}
        self._session = os.getsid(0)

    @property
    def groups(self) -> list[int]:
        """Their process groups."""
        return list(self._groups)

    def look(self, children: Collection[int]) -> None:
        """See what is there now."""
        for group in [group for group in self._groups if not _lives(group)]:
            del self._groups[group]
        for child in children:
            for pid in below(child):
                self._note(pid, child, children)
        for pid in _children_of(os.getpid()):
            if _session(pid) not in (self._session, None):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                self._note(pid, 0, children)

    def _note(self, pid: int, child: int, children: Collection[int]) -> None:
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(pid)
            if group not in children and group != os.getpgrp():
                self._groups.setdefault(group, child)

    def enter(self, _pid: int) -> None:
        """A child is there; it is looked at later."""

    def seek(self, child: int) -> None:
        """See what is below a child, which is about to be killed: nothing leads there afterwards."""
        for pid in below(child):
            self._note(pid, child, (child,))

    def kill(self, child: int) -> None:
        """Kill what was seen below a child."""
        for group in [group for group, owner in self._groups.items() if owner == child]:
            del self._groups[group]
            kill_orphans(group)

    def leave(self, child: int) -> None:
        """A child is dead: kill what was seen below it."""
        self.kill(child)

    def close(self) -> None:
        """Kill all of them."""
        for group in self._groups:
            kill_orphans(group)
        self._groups.clear()


def below(pid: int) -> list[int]:
    """Return what a process has started, with what that has started in turn."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children_of(waiting.pop())
        found += children
        waiting += children
    return found


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
