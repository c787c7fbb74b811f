"""Whether to spin for what is about to come, instead of going to sleep.

A thread that sleeps must be woken, and so must the processor that it slept on. That takes 50 µs on a
virtual machine, and the thread that wakes it pays a part. Where spinning fails, it becomes rarer.
"""

from __future__ import annotations

import os

#: After spinning failed, at most this number of waits go to sleep at once.
_LONGEST_PAUSE = 100


def available_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SpinBudget:
    """Decides that, wait by wait.

    Args:
        can: whether spinning can be of use at all.
    """

    def __init__(self, *, can: bool) -> None:
        # Another processor has to do the work meanwhile.
        self._can = can and hasattr(os, "sched_yield") and available_processors() > 1
        self._pause = 0
        self._left = 0

    def worth_it(self) -> bool:
        """Whether to spin this time."""
        if self._left:
            self._left -= 1
            return False
        return self._can

    def paid_off(self) -> None:
        """It came."""
        self._pause = 0

    def missed(self) -> None:
        """It did not."""
        self._pause = self._left = min(2 * self._pause + 1, _LONGEST_PAUSE)
