"""When to look at what again."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from manyhands_broker.core.model.job import Job

#: What is called when a call raises: with the exception, and the job that the call was for.
OnFailure = Callable[[Exception, Job | None], None]


class Timers:
    """A heap of calls to make at a time. A timer that no longer applies finds that out itself."""

    def __init__(self, failed: OnFailure) -> None:
        self._failed = failed
        self._heap: list[tuple[float, int, Callable[[float], None], Job | None]] = []
        self._ties = count()
        #: Seconds in all in which the broker could not hear.
        self._unheard = 0.0

    def at(self, when: float, call: Callable[[float], None], job: Job | None = None) -> None:
        """Call `call(now)` once `when` has come. What it raises ends `job`, if it is for one."""
        heapq.heappush(self._heap, (when, next(self._ties), call, job))

    def await_peer(
        self, when: float, call: Callable[[float], None], job: Job | None = None
    ) -> None:
        """Do so for what a peer has time for until `when`. A stall from now on gives it as much more."""
        before = self._unheard

        def due(now: float) -> None:
            missed = self._unheard - before
            if missed:
                self.await_peer(when + missed, call, job)
            else:
                call(now)

        self.at(when, due, job)

    def stalled(self, seconds: float) -> None:
        """Take note that the broker could not hear for so long."""
        self._unheard += seconds

    def listened(self, now: float) -> float:
        """Return `now` less all the time in which the broker could not hear.

        A peer that has time until a moment of this clock has as much more time after a stall.
        """
        return now - self._unheard

    @property
    def next(self) -> float | None:
        """When the earliest is due."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Make every call that is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, call, job = heapq.heappop(heap)
            try:
                call(now)
            except Exception as error:  # noqa: BLE001 - reported; the other calls are made
                self._failed(error, job)
