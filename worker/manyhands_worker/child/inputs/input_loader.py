"""How a pool child comes by the stored values that its tasks refer to."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import msgpack

from manyhands_shared import shm
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.payloads.refs import Place
from manyhands_worker.child.inputs.recent_segments import RecentSegments, Segment

#: A task whose value has not come by then gives its slot to others (see `core.awaiting_values`). One
#: that has begun, and loads a value itself, waits on.
_MOMENT_SECONDS = 0.1
_WAIT_SECONDS = 60.0


class ValueAway(BaseException):
    """A value has not come yet: not an error of the task, which is to be tried again.

    Args:
        key: the value's.
        owner: the public name of the session that has it.
    """

    def __init__(self, key: bytes, owner: bytes) -> None:
        super().__init__("a value that the task refers to has not come yet")
        self.key = key
        self.owner = owner


class ValueGone(RuntimeError):
    """No process has a value any more."""


class InputLoader:
    """The child's side: brings stored values from the node.

    Args:
        lender: the node's.
    """

    def __init__(self, lender: str) -> None:
        self._lender = lender
        self._borrower: shm.Borrower | None = None
        self.recent = RecentSegments()
        #: Whether code of a task runs, so that there is no way back.
        self.begun: Callable[[], bool] = lambda: True
        #: What was not there in time since `begin`, even if code of the task's has hidden it.
        self.away: ValueAway | None = None

    def wait(self, sock: socket.socket) -> None:
        """Return when `sock` can be read; until then see that what is owed to the node is given back."""
        self.recent.clear()
        borrower = self._borrower
        if borrower is None or not (borrower.owing or borrower.asking):
            return
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(borrower.fd, select.POLLIN)
        while borrower.owing or borrower.asking:
            if any(fd == sock.fileno() for fd, _ in poll.poll()):
                return
            borrower.discard()

    def bring(self, place: Place, private: bool) -> tuple[Buffer, ...]:
        """The buffers of a place. Private ones may be written to without anybody seeing it.

        Raises:
            ValueAway: the task that needs them had better wait elsewhere.
            ValueGone: no process has them.
        """
        size = shm.span(place.lengths)
        segment = self.recent.find(place.key, size)
        if segment is None:
            segment = self._borrow(place, size)
            self.recent.kept[place.key, size] = segment
        return shm.cut(segment.view(size, private=private), place.lengths)

    def _borrow(self, place: Place, size: int) -> Segment:
        """Have the node lend the segment of a place."""
        if self._borrower is None:
            self._borrower = shm.Borrower()
        hint = msgpack.packb([place.host, place.lender, place.owner], use_bin_type=True)
        begun = self.begun()
        seconds = _WAIT_SECONDS if begun else _MOMENT_SECONDS
        answered, found = self._borrower.borrow(self._lender, place.key, hint, seconds)
        if not (answered or begun):
            self.away = ValueAway(place.key, place.owner)
            raise self.away
        if found is not None:
            segment = Segment(*found, self._borrower.returning(self._lender, place.key))
            if segment.fits(size):
                return segment
        why = (
            "has let go of it, or is gone" if answered else f"has not sent it within {seconds:g} s"
        )
        raise ValueGone(
            f"a value of {size} bytes that the task refers to cannot be fetched: "
            f"the client that kept it {why}"
        )
