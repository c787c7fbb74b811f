"""Fetches held results from where they lie, so that they take no way through the broker.

On the same host the memory itself is borrowed: mapped, not copied. The mapping is copy-on-write, so
an array that comes back can be written to like any other, and nobody else sees it. From other hosts it
is received (see `remote_fetch`).
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from manyhands._session.effects import Fetch
from manyhands._session.events import Fetched
from manyhands_shared import shm
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.held_result import Ticket

if TYPE_CHECKING:
    from manyhands._values.remote_fetch import Direct


#: Results that are mapped; more are copied. The system allows a process 65,530 mappings in all.
_MOST_MAPPED = 16_384


class Fetcher:
    """All fetches of a session. `fd` can be read when `turn` has answers; nothing here waits.

    Args:
        direct: fetches from other hosts, and answers for itself; None: these are not to be had.

    Raises:
        OSError: the system gives no descriptor.
    """

    def __init__(self, direct: Direct | None) -> None:
        self._direct = direct
        self._borrower = shm.Borrower(self._recalled)
        self._waiting: dict[bytes, tuple[Fetch, Ticket]] = {}
        self._failed: deque[Fetched] = deque()
        # What is mapped, for as long as somebody looks at it, and how to give it back.
        self._mappings: dict[bytes, tuple[weakref.ref[mmap.mmap], Callable[[], None]]] = {}
        self.fd = self._borrower.fd

    @property
    def pending(self) -> bool:
        """Whether `turn` has answers of which `fd` does not tell."""
        return bool(self._failed) or self._borrower.pending

    def fetch(self, wanted: Fetch) -> None:
        """Begin to fetch a result; `turn` brings it."""
        try:
            ticket = Ticket.decode(wanted.ticket)
        except ProtocolError:
            self._failed.append(answer(wanted))
            return
        if ticket.host != shm.host_id():
            self._fetch_afar(wanted, ticket)
            return
        self._waiting[ticket.key] = wanted, ticket
        self._borrower.ask(ticket.lender, ticket.key)

    def _fetch_afar(self, wanted: Fetch, ticket: Ticket) -> None:
        if self._direct is not None and ticket.server is not None:
            try:
                self._direct.fetch(wanted, ticket, ticket.server)
            except OSError:
                self._failed.append(answer(wanted))
        else:
            self._failed.append(answer(wanted))

    def turn(self) -> list[Fetched]:
        """The fetches that are over."""
        over = [*self._failed]
        self._failed.clear()
        for lender, key, found in self._borrower.turn():
            entry = self._waiting.pop(key, None)
            if entry is None:
                if found is not None:
                    os.close(found[0])
                    self._borrower.returning(lender, key)()
                continue
            wanted, ticket = entry
            over.append(answer(wanted, None if found is None else self._mapped(ticket, *found)))
        return over

    def close(self) -> None:
        """Fetch no more. What was fetched stays."""
        self._borrower.close()

    def _mapped(self, ticket: Ticket, fd: int, at: int) -> Payload | None:
        size = shm.span(ticket.lengths)
        give_back = self._borrower.returning(ticket.lender, ticket.key)
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
        """A node is short of memory: make what is kept of it this process's own, and give it back."""
        found = self._mappings.get(key or b"")
        memory = None if found is None else found[0]()
        if found is not None and memory is not None and shm.make_own(memory):
            self._mappings.pop(key or b"", None)
            found[1]()


def fetcher(direct: Direct | None) -> Fetcher | None:
    """A fetcher, or None where results cannot be fetched."""
    if not shm.host_id():
        return None
    try:
        return Fetcher(direct)
    except OSError:
        return None


def answer(wanted: Fetch, payload: Payload | None = None) -> Fetched:
    """What has come of a fetch; without a payload: it is not to be had."""
    return Fetched(wanted.job, wanted.attempt, wanted.index, wanted.ticket, payload)
