"""What the I/O thread does about large values, so that they take no way through the broker.

It fetches results that their nodes hold, and lends what is stored here. On the same host the memory
itself is borrowed: mapped, not copied. The mapping is copy-on-write, so an array that comes back can
be written to like any other, and no other process sees it. From other hosts a result is received (see
`remote_fetch`).
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from manyhands._io.poller import Poller
from manyhands._io.submit_queue import SubmitQueue
from manyhands._session.effects import Fetch
from manyhands._session.events import Fetched
from manyhands._values.store import Store
from manyhands_shared import shm
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.held_result import Ticket
from manyhands_shared.protocol.messages import Message, Stock

if TYPE_CHECKING:
    from manyhands._values.remote_fetch import RemoteFetcher

#: Results that are mapped; more are copied. The system allows a process 65,530 mappings in all.
_MOST_MAPPED = 16_384


class Transfers:
    """The store and the fetches of a session, all but the store for the I/O thread alone.

    Nothing here waits.

    Args:
        session: the session's secret token.
        queue: leads to the I/O thread.
        poller: the thread's, where descriptors are registered.
        send: sends a message if the session is open.
        keyed: whether the cluster has a key, so that results may be fetched from other hosts.
    """

    def __init__(
        self,
        session: bytes,
        queue: SubmitQueue,
        poller: Poller,
        send: Callable[[Message], None],
        *,
        keyed: bool,
    ) -> None:
        #: Large values that tasks refer to.
        self.store = Store(session, queue.command, queue.check, self._lend)
        self._poller = poller
        self._send = send
        self._queue = queue
        self._lender: shm.Lender | None = None
        self._remote = self._open_remote() if keyed else None
        self._borrower = self._open_borrower()
        #: What is being borrowed, by its key.
        self._asked: dict[bytes, tuple[Fetch, Ticket]] = {}
        #: Fetches that are over; no descriptor tells of them.
        self._over: list[Fetched] = []
        # What is mapped, for as long as it is referred to, and how to give it back.
        self._mappings: dict[bytes, tuple[weakref.ref[mmap.mmap], Callable[[], None]]] = {}

    def _open_remote(self) -> RemoteFetcher:
        from manyhands._values.remote_fetch import RemoteFetcher  # noqa: PLC0415 - 20 ms with ZeroMQ, for clusters with a key

        return RemoteFetcher(self._fetched_afar)

    def _open_borrower(self) -> shm.Borrower | None:
        """Return what borrows memory; None where results cannot be fetched."""
        if not shm.host_id():
            return None
        try:
            borrower = shm.Borrower(self._recalled)
        except OSError:
            return None
        self._poller.register(borrower.fd)
        return borrower

    @property
    def pending(self) -> bool:
        """Whether `turn` has something to do that no descriptor tells of."""
        return bool(self._over) or (self._borrower is not None and self._borrower.pending)

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a job, with what its nodes must know of this session."""
        if self._remote is None or not options.get("direct"):
            return options
        return {**options, "fetch_key": self._remote.public}

    def fetch(self, wanted: Fetch) -> None:
        """Begin to fetch a result; `turn` brings it."""
        if self._borrower is None:
            # The broker was told that nothing can be fetched here, and offers it all the same.
            self._over.append(_answer(wanted))
            return
        try:
            ticket = Ticket.decode(wanted.ticket)
        except ProtocolError:
            self._over.append(_answer(wanted))
            return
        if ticket.host != shm.host_id():
            self._fetch_afar(wanted, ticket)
            return
        self._asked[ticket.key] = wanted, ticket
        self._borrower.ask(ticket.lender, ticket.key)

    def turn(self, ready: Mapping[Any, int]) -> list[Fetched]:
        """Serve what has come; return the fetches that are over."""
        over, self._over = self._over, []
        if self._lender is not None and self._lender.fd in ready:
            self._lender.turn()
        borrower = self._borrower
        if borrower is not None and (borrower.fd in ready or borrower.pending):
            for lender, key, found in borrower.turn():
                if (fetched := self._borrowed(borrower, lender, key, found)) is not None:
                    over.append(fetched)
        return over

    def supply(self, key: bytes) -> None:
        """Send what a node cannot borrow, or that it is not here."""
        self._send(Stock(key, self.store.supply(key, self._gone)))

    def close(self) -> None:
        """End all fetches and the store with the session. What was fetched stays."""
        if self._borrower is not None:
            self._borrower.close()
        if self._remote is not None:
            self._remote.close()
        self.store.close()

    # From other hosts ---------------------------------------------------------------------------

    def _fetch_afar(self, wanted: Fetch, ticket: Ticket) -> None:
        if self._remote is not None and ticket.server is not None:
            try:
                self._remote.fetch(wanted, ticket, ticket.server)
            except OSError:
                self._over.append(_answer(wanted))
        else:
            self._over.append(_answer(wanted))

    def _fetched_afar(self, wanted: Fetch, payload: Payload | None) -> None:
        """Tell the I/O thread that a fetch is over; called on the thread for these."""
        self._queue.command(partial(self._note, _answer(wanted, payload)))

    def _note(self, fetched: Fetched) -> None:
        self._over.append(fetched)

    # On this host -------------------------------------------------------------------------------

    def _borrowed(
        self, borrower: shm.Borrower, lender: str, key: bytes, found: tuple[int, int] | None
    ) -> Fetched | None:
        """Map what a node has lent; None if it is not awaited any more."""
        entry = self._asked.pop(key, None)
        give_back = borrower.returning(lender, key)
        if entry is None:
            if found is not None:
                os.close(found[0])
                give_back()
            return None
        wanted, ticket = entry
        return _answer(wanted, None if found is None else self._mapped(ticket, give_back, *found))

    def _mapped(
        self, ticket: Ticket, give_back: Callable[[], None], fd: int, at: int
    ) -> Payload | None:
        size = shm.span(ticket.lengths)
        try:
            if not shm.fits(fd, size, at):
                raise ValueError("another size than the ticket says")
            if len(self._mappings) < _MOST_MAPPED:
                key, mappings = ticket.key, self._mappings

                def given_up() -> None:
                    # Not if it was given back already, when the node asked for it.
                    if mappings.pop(key, None) is not None:
                        give_back()

                memory = shm.private_view(fd, size, given_up, at)
                mappings[key] = weakref.ref(cast("mmap.mmap", memory.obj)), give_back
            else:
                memory = memoryview(bytearray(size))
                os.preadv(fd, [memory], at)
                give_back()
            return shm.cut(memory, ticket.lengths)
        except (OSError, ValueError):
            # No room for the mapping: the way through the broker needs no less, but may find some.
            give_back()
            return None
        finally:
            os.close(fd)

    def _recalled(self, _lender: str, key: bytes | None) -> None:
        """Copy what is mapped of a node that is short of memory, and give it back."""
        found = self._mappings.get(key or b"")
        memory = None if found is None else found[0]()
        if found is not None and memory is not None and shm.make_own(memory):
            self._mappings.pop(key or b"", None)
            found[1]()

    # Lending ------------------------------------------------------------------------------------

    def _lend(self, lender: shm.Lender) -> None:
        self._lender = lender
        self._poller.register(lender.fd)

    def _gone(self, key: bytes) -> None:
        self._send(Stock(key, []))


def _answer(wanted: Fetch, payload: Payload | None = None) -> Fetched:
    """Return what has come of a fetch; without a payload the session asks the broker for it."""
    return Fetched(wanted.job, wanted.attempt, wanted.index, wanted.ticket, payload)
