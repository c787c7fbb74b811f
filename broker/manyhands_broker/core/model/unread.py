"""What a session was sent and may not have read yet.

Nothing acknowledges it. So the broker sends a ping behind it, with a number that no client can guess. A
client that answers the ping has read all that came before.
"""

from __future__ import annotations

from collections import deque

#: Bytes behind which a ping is sent.
PING_BYTES = 64 << 10


class Unread:
    """The bytes of one kind that a session may not have read, counted in its key's ledger too.

    Args:
        ledger: the key's: it counts the bytes of all its sessions.
        figure: the attribute of the ledger for them.
    """

    __slots__ = ("_figure", "_ledger", "_pings", "nbytes")

    def __init__(self, ledger: object, figure: str) -> None:
        self._ledger = ledger
        self._figure = figure
        self.nbytes = 0
        #: The number of each ping on its way, and bytes since the ping before.
        self._pings: deque[tuple[int, int]] = deque()

    def sent(self, size: int, ping: int) -> bool:
        """Count what was sent; return whether to send a ping of number `ping` behind it."""
        self._add(size)
        since = self.nbytes - sum(size for _, size in self._pings)
        if since < PING_BYTES:
            return False
        self._pings.append((ping, since))
        return True

    def heard_of(self, ping: int) -> None:
        """Count what was sent before a ping as read: the client has answered it."""
        if any(number == ping for number, _ in self._pings):
            while self._pings:
                number, size = self._pings.popleft()
                self._add(-size)
                if number == ping:
                    break

    def forget(self) -> None:
        """Count nothing as unread: it is lost with the link."""
        self._add(-self.nbytes)
        self._pings.clear()

    def _add(self, size: int) -> None:
        self.nbytes += size
        setattr(self._ledger, self._figure, getattr(self._ledger, self._figure) + size)
