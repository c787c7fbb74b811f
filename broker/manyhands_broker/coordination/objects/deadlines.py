"""When the waits of members end, where the broker decides that."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from manyhands_broker.core.state.timers import Timers
from manyhands_shared.coordination.rules.model import Op

#: Entries of waits that have ended that the heap may hold beside as many of those that have not.
_SPARE = 1_024


class Deadlines:
    """A heap of waits by the end of their time, with one timer for the first.

    Args:
        timers: where that timer is.
        expire: called with an object's key and a request whose time is over.
        waits: whether a request still waits until this time.
    """

    def __init__(
        self,
        timers: Timers,
        expire: Callable[[bytes, Op], None],
        waits: Callable[[bytes, Op, float], bool],
    ) -> None:
        self._timers = timers
        self._expire = expire
        self._waits = waits
        self._heap: list[tuple[float, int, bytes, Op]] = []
        self._ties = count()
        self._pruned = 0
        #: When the timer runs.
        self._armed: float | None = None

    def add(self, when: float, key: bytes, op: Op) -> None:
        """End a wait at this time, unless it has ended before."""
        if len(self._heap) > 2 * self._pruned + _SPARE:
            self._prune()
        heapq.heappush(self._heap, (when, next(self._ties), key, op))
        self._arm()

    def _prune(self) -> None:
        """Forget what does not wait any more: most waits end before their time."""
        self._heap = [one for one in self._heap if self._waits(one[2], one[3], one[0])]
        heapq.heapify(self._heap)
        self._pruned = len(self._heap)

    def _arm(self) -> None:
        if not self._heap:
            return
        when = self._heap[0][0]
        if self._armed is None or when < self._armed:
            self._armed = when
            self._timers.at(when, self._run)

    def _run(self, now: float) -> None:
        self._armed = None
        while self._heap and self._heap[0][0] <= now:
            when, _, key, op = heapq.heappop(self._heap)
            if self._waits(key, op, when):
                self._expire(key, op)
        self._arm()
