"""Whether a child's task, with what it has started, has more memory than its job asked for."""

from __future__ import annotations

from manyhands_worker.host.escaped_processes import below
from manyhands_worker.host.memory_groups import MemoryGroup
from manyhands_worker.host.memory_use import private_bytes, proportional_bytes

#: After a slow look that found nothing wrong there is no other for this time.
_PAUSE_SECONDS = 1.0


class TaskMemory:
    """Looks at one child.

    Args:
        pid: the child.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: Bytes that its present tasks may have; 0: any.
        self.limit = 0
        #: Its control group, if the kernel is to see to it as well.
        self.group: MemoryGroup | None = None
        self._kills = 0
        self._again = 0.0

    def begin(self, limit: int) -> None:
        """Tasks with a limit come now, or with none: 0."""
        self.limit = limit
        if limit and self.group is not None:
            self._kills = self.group.kills

    @property
    def place(self) -> str:
        """Where its control group is; empty: it has none."""
        return "" if self.group is None else str(self.group.path)

    @property
    def has_killed(self) -> bool:
        """Whether the kernel has killed a process of its control group since then."""
        return self.group is not None and self.group.kills > self._kills

    def excess(self, now: float) -> int:
        """Return the bytes that are in use if that is more than the limit; else 0.

        The limit itself: the kernel let it have no more.
        """
        if not self.limit or now < self._again:
            return 0
        if self.has_killed:
            return self.limit
        pids = [self._pid, *below(self._pid)]
        used = private_bytes(pids)
        if used > self.limit and len(pids) > 1:
            # Forked processes share what neither has written to since.
            used = proportional_bytes(pids)
            self._again = now + _PAUSE_SECONDS
        return used if used > self.limit else 0
