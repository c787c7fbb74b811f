"""When results that came are acknowledged."""

from __future__ import annotations

#: An acknowledgement is due after this many messages, or bytes, or seconds. The broker keeps results
#: until then. No caller waits for it, so a lone call need not cost one.
ACK_MESSAGES = 64
ACK_BYTES = 1 << 20
ACK_SECONDS = 0.05


class DelayedAcks:
    """Counts what was taken and not acknowledged yet."""

    def __init__(self) -> None:
        #: When the acknowledgement is due; `None` if there is nothing to acknowledge.
        self.due: float | None = None
        self._messages = 0
        self._bytes = 0

    def took(self, size: int, now: float) -> None:
        """A message of results with `size` bytes was taken."""
        self._messages += 1
        self._bytes += size
        if self._messages >= ACK_MESSAGES or self._bytes >= ACK_BYTES:
            self.due = now
        elif self.due is None:
            self.due = now + ACK_SECONDS

    def is_due(self, now: float) -> bool:
        """Return whether to acknowledge at once."""
        return self.due is not None and self.due <= now

    def repeat(self, now: float) -> None:
        """The broker repeats what was taken, so it has not heard of that: say it at once."""
        self.due = now

    def clear(self) -> None:
        """Everything was acknowledged."""
        self.due = None
        self._messages = self._bytes = 0
