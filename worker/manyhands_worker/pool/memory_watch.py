"""Whether a child's task, with what it has started, has more memory than its job asked for."""

from __future__ import annotations

from manyhands_worker.host.escaped_processes import below
from manyhands_worker.host.memory_use import private_bytes, proportional_bytes

#: After a slow look that found nothing wrong there is no other for this time.
_PAUSE_SECONDS = 1.0


class MemoryWatch:
    """Looks at one child.

    Args:
        pid: the child.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: Bytes that its present tasks may have; 0: any.
        self.limit = 0
        self._again = 0.0

    def excess(self, now: float) -> int:
        """Return the bytes that are in use if that is more than the limit; else 0."""
        if not self.limit or now < self._again:
            return 0
        pids = [self._pid, *below(self._pid)]
        used = private_bytes(pids)
        if used > self.limit and len(pids) > 1:
            # Forked processes share what neither has written to since.
            used = proportional_bytes(pids)
            self._again = now + _PAUSE_SECONDS
        return used if used > self.limit else 0
