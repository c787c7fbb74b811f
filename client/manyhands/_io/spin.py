"""Short waits without sleep.

A lone task passes several processes, and each would have to be woken. A thread that looks again and
again instead keeps its processor awake.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from manyhands_shared.clock import monotonic
from manyhands_shared.spinning import SpinBudget

#: The longest that a caller spins.
SPIN_SECONDS = 0.002


class Spinner(SpinBudget):
    """Spins, where it has turned out to be worth it."""

    def spin_for(
        self,
        descriptor: int,
        done: Callable[[], bool],
        timeout: float | None,
        receive: Callable[[], bool],
    ) -> None:
        """Spin until `done()`, for a moment; `receive` what has come, until that says no."""
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        until = monotonic() + (SPIN_SECONDS if timeout is None else min(timeout, SPIN_SECONDS))
        while not done():
            if poller.poll(0):
                if not receive():
                    return
            else:
                os.sched_yield()  # to what works on the answer, if that is on this processor
            if monotonic() >= until:
                self.missed()
                return
        self.paid_off()
