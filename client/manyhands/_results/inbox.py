"""Where the results of one job wait until the user takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from manyhands_shared.conditions import Condition
from manyhands_shared.payloads.payload import Payload, nbytes, total

#: Bytes of results that wait for the user, above which a durable job's are left with the broker; and
#: what one takes beyond its payload.
FULL_BYTES = 64 << 20
_OVERHEAD = 150

Arrival = tuple[int, int, Payload]


class Inbox:
    """Collects what comes back for one job. A `Sink`."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.arrived: deque[Arrival] = deque()
        self.ended = 0
        self.error: BaseException | None = None

    def accept(self, _first: int, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""

    def reject(self, _entries: Sequence[Any], _payloads: Sequence[Payload], /) -> None:
        """See `Sink`."""
        self.fail(CancelledError("the job was cancelled"))

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        with self.changed.lock:
            self.arrived.extend(zip(indices, statuses, bodies, strict=True))
            self.ended += len(indices)
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        with self.changed.lock:
            self.error = self.error or error
            self.changed.notify_all()

    @property
    def waits(self) -> bool:
        """See `Sink`."""
        return True

    def orphan(self, error: BaseException, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""
        self.changed = Condition()
        self.error = self.error or error

    def take(self) -> Arrival:
        """Return the next result; there must be one. Hold `changed`."""
        return self.arrived.popleft()


class BoundedInbox(Inbox):
    """One for results that the broker keeps anyway: they stay there while there are many here.

    Args:
        pause: called with whether they are to stay there, whenever that changes.
        full_bytes: above it they stay there; below half of it they come again.
    """

    def __init__(self, pause: Callable[[bool], None], full_bytes: int = FULL_BYTES) -> None:
        super().__init__()
        self._pause = pause
        self._full_bytes = full_bytes
        self._bytes = 0
        self._is_paused = False

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        with self.changed.lock:
            super().deliver(indices, statuses, bodies)
            self._bytes += total(bodies) + _OVERHEAD * len(bodies)
            if self._bytes > self._full_bytes and not self._is_paused:
                self._is_paused = True
                self._pause(True)

    def take(self) -> Arrival:
        """Return the next result; there must be one. Hold `changed`."""
        arrival = super().take()
        self._bytes -= nbytes(arrival[2]) + _OVERHEAD
        if self._is_paused and self._bytes < self._full_bytes // 2:
            self._is_paused = False
            self._pause(False)
        return arrival
