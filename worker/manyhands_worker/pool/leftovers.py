"""Ends what tasks have started, with the child or behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from pathlib import Path

from manyhands_worker.host.child_cgroups import ChildCgroup
from manyhands_worker.host.escaped_processes import EscapedProcesses
from manyhands_worker.host.memory_groups import MemoryGroup, MemoryGroups
from manyhands_worker.pool.child_handle import ChildHandle

#: After a task or a child has ended, what it may have left is looked for so much later.
_SEARCH_SECONDS = 0.5


class Leftovers:
    """The processes that tasks have started.

    Args:
        reach: what finds them; None: killing process groups does.
    """

    def __init__(self, reach: ChildCgroup | EscapedProcesses | None) -> None:
        self._reach = reach
        #: The control groups of their memory, where there can be any.
        self.memory = None if reach is None else MemoryGroups.make(reach.path)
        #: When `turn` is to look for them.
        self.due = math.inf

    @property
    def groups(self) -> list[int]:
        """Process groups that must not outlive the node, beside those of children."""
        return [] if self._reach is None else self._reach.groups

    def turn(self, now: float, children: Collection[int]) -> None:
        """Look for them if it is time."""
        if now >= self.due:
            self.due = math.inf
            self.look(children)

    def look(self, children: Collection[int]) -> None:
        """Look for them now."""
        if self._reach is not None:
            self._reach.look(children)

    @property
    def cgroups(self) -> list[Path]:
        """Control groups that must not outlive the node."""
        return [owner.path for owner in (self._reach, self.memory) if owner and owner.path]

    def enter(self, child: ChildHandle) -> None:
        """Count what a new child starts as the child's, its memory too."""
        if self._reach is not None:
            self._reach.enter(child.pid)
        if self.memory is not None:
            child.memory.group = MemoryGroup(self.memory.path / str(child.pid))

    def end(self, child: ChildHandle) -> None:
        """Kill a child and everything that it has started."""
        if self._reach is not None:
            self._reach.seek(child.pid)
        child.kill()
        if self._reach is not None:
            self._reach.kill(child.pid)

    def release(self, child: ChildHandle) -> None:
        """Give back everything of a dead child."""
        child.release()
        if self._reach is not None:
            self._reach.leave(child.pid)
        if self.memory is not None:
            self.memory.leave(child.pid)
        # What was killed with it is this process's to reap.
        self.search_soon()

    def search_soon(self) -> None:
        """Look for them in a moment."""
        if self.due == math.inf and self._reach is not None:
            self.due = time.monotonic() + _SEARCH_SECONDS

    def close(self) -> None:
        """End them all."""
        if self._reach is not None:
            self._reach.close()
        if self.memory is not None:
            self.memory.close()
