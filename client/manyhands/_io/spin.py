"""Short waits without sleep.

A lone task passes several processes, each of which would have to be woken. A thread that looks
again and again instead keeps its processor awake.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from manyhands_shared.clock import monotonic
from manyhands_shared.spinning import Patience

#: The longest that anybody looks.
LOOK_SECONDS = 0.002


class Vigil(Patience):
    """Looks, where it has turned out to be worth it."""

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
                self.in_vain()
                return
        self.rewarded()
