"""A borrower's connection to one lender, with what is still to be said there.

Segments are given back on any thread, in the middle of anything, for garbage is collected there. The
lender may be too busy to read. So nothing here waits and nothing is lost: what the socket does not
take now stays in a queue, in order. The queue also carries what was taken, so the count of what
this side has is always as the lender sees it.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable

from manyhands_shared.protocol.parts import KEY_BYTES
from manyhands_shared.shm.lender import ABSENT, RETURN

#: Entries of the queue: a segment was taken, is given back, or these were asked for by their keys.
_TAKEN, _GIVEN_BACK, _ASKED_FOR = range(3)


class LenderConnection:
    """Closes its connection when its last user lets go of it.

    Args:
        connection: to the lender; it does not block.
        full: called, on any thread, when the socket takes no more; `flush` is to be called when it
            can be written.
    """

    __slots__ = ("_counts", "_flushing", "_full", "_queue", "socket")

    def __init__(self, connection: socket.socket, full: Callable[[int], None]) -> None:
        self.socket = connection
        self._full = full
        self._queue: deque[tuple[int, bytes]] = deque()
        self._flushing = threading.Lock()
        self._counts: dict[bytes, int] = {}

    def __del__(self) -> None:
        self.socket.close()

    @property
    def waiting(self) -> bool:
        """Whether something is still to be said."""
        return bool(self._queue)

    def taken(self, key: bytes) -> None:
        """A segment has come."""
        self._queue.append((_TAKEN, key))
        self.flush()

    def give_back(self, key: bytes) -> None:
        """A segment is needed no more."""
        self._queue.append((_GIVEN_BACK, key))
        self.flush()

    def compare(self, keys: bytes) -> None:
        """The lender believes these segments to be here: say which are not."""
        self._queue.append((_ASKED_FOR, keys))
        self.flush()

    def flush(self) -> bool:
        """Say what waits, as far as the socket takes it. Returns whether that was all."""
        # Who finds it taken may have interrupted who has it, who looks again when he is done.
        while self._queue and self._flushing.acquire(blocking=False):
            try:
                while self._queue:
                    if not self._say(*self._queue[0]):
                        return False
                    self._queue.popleft()
            finally:
                self._flushing.release()
        return True

    def _say(self, what: int, key: bytes) -> bool:
        counts = self._counts
        if what == _TAKEN:
            counts[key] = counts.get(key, 0) + 1
            return True
        packet = RETURN + key
        if what == _ASKED_FOR:
            keys = [key[at : at + KEY_BYTES] for at in range(0, len(key), KEY_BYTES)]
            packet = ABSENT + b"".join(one for one in keys if one not in counts)
        try:
            self.socket.send(packet)
        except BlockingIOError:
            self._full(self.socket.fileno())
            return False
        except OSError:
            return True  # the lender is gone, and needs no telling
        if what == _GIVEN_BACK and counts.get(key):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
        return True
