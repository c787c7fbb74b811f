"""A result held on its node until its client has fetched it: the node's side of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from manyhands_shared import shm
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol.held_result import Ticket

if TYPE_CHECKING:
    from manyhands_worker.values.result_server import ResultServer


class HeldSegment:
    """A result in a segment: the node's side. It holds the descriptor until `free`.

    Args:
        lender: who lends it on this host.
        server: who serves it to clients of other hosts, or None.
        fd: of the segment; this object's own from now on.
        lengths: of the result's buffers.
        release: called with its descriptor once neither client nor server uses the segment.
    """

    __slots__ = ("_ends", "_fd", "_lender", "_lengths", "_server", "key", "nbytes", "ticket")

    def __init__(
        self,
        lender: shm.Lender,
        server: ResultServer | None,
        fd: int,
        lengths: Sequence[int],
        release: Callable[[int], None],
    ) -> None:
        place = None if server is None else server.place
        self._lender = lender
        self._server = None if place is None else server
        self._fd = fd
        #: By which it is lent.
        self.key = os.urandom(16)
        self._lengths = lengths
        # What is left to do when lender and server are done with it, the last of it first. Taken from it
        # on any thread, in the middle of anything: garbage is collected there.
        self._ends: deque[Callable[[], None]] = deque([partial(_finish, fd, release)])
        self.nbytes = sum(lengths)
        #: The body of the result while it is held.
        self.ticket = Ticket(shm.host_id(), lender.address, self.key, list(lengths), place).encode()
        lender.offer(self.key, fd, self._done)

    def admit(self, guest: str) -> None:
        """The client with this public key (hexadecimal; empty: none) may fetch it from another host."""
        if self._server is not None and guest:
            self._ends.append(_nothing)
            size = shm.span(self._lengths)
            self._server.offer(self.key, self._fd, size, guest, self._done)

    def payload(self) -> tuple[Buffer, ...]:
        """The result itself, to be sent; not after `free`.

        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        return shm.cut(shm.shared_view(self._fd, shm.span(self._lengths)), self._lengths)

    def free(self) -> None:
        """Lend and serve it no more. A client that has mapped it keeps it."""
        self._lender.withdraw(self.key)
        if self._server is not None:
            self._server.withdraw(self.key)

    def _done(self) -> None:
        self._ends.pop()()


def _finish(fd: int, release: Callable[[int], None]) -> None:
    try:
        release(fd)
    finally:
        os.close(fd)


def _nothing() -> None:
    """Do nothing: lender or server is not done with it."""
