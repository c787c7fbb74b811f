"""Waiting until descriptors are ready, where another thread may say for which of them not to wait."""

from __future__ import annotations

import math
import select
from collections.abc import Callable

IN, OUT = select.POLLIN, select.POLLOUT  # the same numbers for `poll` and `epoll`


class Poller:
    """Descriptors that one thread waits for."""

    def __init__(self) -> None:
        #: Whether `modify` works, also while a thread waits.
        self.mutes = hasattr(select, "epoll")
        self._set = select.epoll() if self.mutes else select.poll()
        #: Wait for other events of a descriptor; 0: do not wake up for it. Nothing interrupts it.
        self.modify: Callable[[int, int], None] = self._set.modify

    def register(self, descriptor: int, events: int = IN) -> None:
        """Wait for a descriptor as well."""
        self._set.register(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """Wait for it no more."""
        self._set.unregister(descriptor)

    def wait(self, seconds: float | None) -> dict[int, int]:
        """Events of descriptors that are ready, after `seconds` at the latest; `None`: for ever."""
        if self.mutes:
            return dict(self._set.poll(-1 if seconds is None else seconds))
        return dict(self._set.poll(None if seconds is None else math.ceil(seconds * 1e3)))
