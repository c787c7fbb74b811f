"""When to look at what again."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timers:
    """A heap of calls to make at a time. A timer that no longer applies finds that out itself."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._ties = count()

    def at(self, when: float, call: Callable[[float], None]) -> None:
        """Call `call(now)` once `when` has come."""
        heapq.heappush(self._heap, (when, next(self._ties), call))

    @property
    def next(self) -> float | None:
        """When the earliest is due."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Make every call that is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            heapq.heappop(heap)[2](now)
