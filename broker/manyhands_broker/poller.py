"""Descriptors that the broker's loop waits for."""

from __future__ import annotations

import math
import select
from collections.abc import Callable


class Poller:
    """Says which descriptors are ready, and calls those who asked to be called.

    Ports only register theirs, and look for them among what is ready.
    """

    def __init__(self) -> None:
        # Not ZeroMQ's poller, which asks each socket twice and takes ten times as long.
        self._poll = select.poll()
        self._calls: dict[int, Callable[[int], object]] = {}
        self.register = self._poll.register
        self.unregister = self._poll.unregister

    def on_readable(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call()` whenever `descriptor` is readable."""
        self.on_ready(descriptor, lambda _: call(), select.POLLIN)

    def on_ready(self, descriptor: int, call: Callable[[int], object], events: int) -> None:
        """Call `call` with what of poll's `events` there is, whenever there is any, or an end."""
        self._calls[descriptor] = call
        self._poll.register(descriptor, events)

    def ignore(self, descriptor: int) -> None:
        """Call no more for `descriptor`."""
        if self._calls.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def wait(self, seconds: float) -> dict[int, int]:
        """Return what is ready, with its events; sleep this long at most until something is."""
        return dict(self._poll.poll(math.ceil(seconds * 1000)))

    def call(self, ready: dict[int, int]) -> None:
        """Call for those of the `ready` descriptors that were registered with a call."""
        calls = self._calls
        for descriptor, events in ready.items():
            # A call before may have put an end to this one.
            if (call := calls.get(descriptor)) is not None:
                call(events)
