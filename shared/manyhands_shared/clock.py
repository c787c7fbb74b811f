"""Time as an argument: everything that waits takes a `Clock`, so that tests can step one."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds on a clock that never jumps. Only differences mean anything.
Clock = Callable[[], float]

#: The clock of real processes. Leases and timeouts never read the wall clock, which can be moved.
monotonic: Clock = time.monotonic


class SteppedClock:
    """A clock that moves only when it is told to.

    >>> clock = SteppedClock(10.0)
    >>> clock.advance(2.5)
    >>> clock()
    12.5
    """

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds` (not negative)."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        self._now += seconds
