"""SIGTERM and SIGINT for a loop that sleeps in a poller."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def wake_on_termination(descriptor: int, handler: Callable[..., object]) -> Iterator[None]:
    """Have both signals call `handler` and write their number to `descriptor`; undo that at the end.

    Args:
        descriptor: what the poller finds readable at its other end. It does not block.
        handler: called in the main thread.
    """
    old_wakeup = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    old_handlers = {
        number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_wakeup)
        for number, old_handler in old_handlers.items():
            signal.signal(number, old_handler)
