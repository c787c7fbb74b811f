"""Short waits without sleep.

Whoever sleeps must be woken, and so must the processor that it slept on: 50 µs on a virtual machine. A
lone task passes four processes, each of which would pay. A thread that looks again and again instead
keeps its processor awake; where such waits turn out long, it does so more and more rarely.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from manyhands_shared.clock import monotonic

#: The longest that anybody looks.
LOOK_SECONDS = 0.002
#: After looks in vain, at most so many waits are left to sleep.
_LONGEST_PAUSE = 100


class Vigil:
    """Decides whether to look, and does.

    Args:
        can: whether it can be done at all.
    """

    def __init__(self, *, can: bool) -> None:
        # Another processor has to do the work meanwhile.
        self._can = can and len(os.sched_getaffinity(0)) > 1
        self._pause = 0
        self._left = 0

    def worth_it(self) -> bool:
        """Whether to look this time."""
        if self._left:
            self._left -= 1
            return False
        return self._can

    def keep(
        self,
        descriptor: int,
        done: Callable[[], bool],
        timeout: float | None,
        receive: Callable[[], bool],
    ) -> None:
        """Look until `done()`, for a moment; `receive` what has come, until that says no."""
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        until = monotonic() + (LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))
        while not done():
            if poller.poll(0):
                if not receive():
                    return
            else:
                os.sched_yield()  # to whoever works on the answer, if it is on this processor
            if monotonic() >= until:
                self._pause = self._left = min(2 * self._pause + 1, _LONGEST_PAUSE)
                return
        self._pause = 0
