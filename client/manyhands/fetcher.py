"""Fetches held results from where they lie, so that they take no way through the broker.

On the same host the memory itself is borrowed: mapped, not copied. The mapping is copy-on-write, so
an array that comes back can be written to like any other, and nobody else sees it. From other hosts it
is received (see `direct`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from manyhands.session.types import Fetch, Fetched
from manyhands_shared import loans
from manyhands_shared.errors import ProtocolError
from manyhands_shared.serial import Payload
from manyhands_shared.ticket import Ticket

if TYPE_CHECKING:
    from manyhands.direct import Direct


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
        self._borrower = loans.Borrower()
        self._waiting: dict[bytes, tuple[Fetch, Ticket]] = {}
        self._failed: deque[Fetched] = deque()
        self._mapped_keys: set[bytes] = set()
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
        if ticket.host != loans.host_id():
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
        size = loans.span(ticket.lengths)
        give_back = self._borrower.returning(ticket.lender, ticket.key)
        try:
            if not loans.fits(fd, size, at):
                raise ValueError("another size than the ticket says")
            if len(self._mapped_keys) < _MOST_MAPPED:
                memory = loans.private_view(fd, size, self._giving_back(ticket.key, give_back), at)
            else:
                memory = memoryview(bytearray(size))
                os.preadv(fd, [memory], at)
                give_back()
            return loans.cut(memory, ticket.lengths)
        except (OSError, ValueError):
            # No room for the mapping: the way through the broker needs no less, but may find some.
            self._mapped_keys.discard(ticket.key)
            give_back()
            return None
        finally:
            os.close(fd)

    def _giving_back(self, key: bytes, give_back: Callable[[], None]) -> Callable[[], None]:
        keys = self._mapped_keys
        keys.add(key)

        def given_up() -> None:
            keys.discard(key)
            give_back()

        return given_up


def fetcher(direct: Direct | None) -> Fetcher | None:
    """A fetcher, or None where results cannot be fetched."""
    if not loans.host_id():
        return None
    try:
        return Fetcher(direct)
    except OSError:
        return None


def answer(wanted: Fetch, payload: Payload | None = None) -> Fetched:
    """What has come of a fetch; without a payload: it is not to be had."""
    return Fetched(wanted.job, wanted.attempt, wanted.index, wanted.ticket, payload)
