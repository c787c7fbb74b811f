"""When tasks of a job came to the broker: exact for those that came last, rougher for older ones."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter

#: Times of those that came last; and as many more over the whole life of the job, evenly chosen.
MOST_ARRIVALS = 512
_first = itemgetter(0)


class Arrivals:
    """Pairs of a task and the time at which it and those behind it came, in rising order."""

    __slots__ = ("_chosen", "_latest", "_seen", "_stride")

    def __init__(self, submitted: float) -> None:
        self._latest = deque([(0, submitted)], MOST_ARRIVALS)
        self._chosen = [(0, submitted)]
        self._seen = 0
        self._stride = 1

    def __len__(self) -> int:
        return len(self._latest) + len(self._chosen)

    def add(self, first: int, now: float) -> None:
        """Note that tasks from `first` on have come; a copy of what came before changes nothing."""
        if first <= self._latest[-1][0]:
            return
        self._latest.append((first, now))
        self._seen += 1
        if self._seen % self._stride == 0:
            self._chosen.append((first, now))
            if len(self._chosen) > MOST_ARRIVALS:
                del self._chosen[1::2]
                self._stride *= 2

    def of(self, task: int) -> float:
        """Return when a task came, or the last time before that which is known."""
        known = self._latest if task >= self._latest[0][0] else self._chosen
        return known[bisect_right(known, task, key=_first) - 1][1]
