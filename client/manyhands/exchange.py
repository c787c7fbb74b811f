"""What the I/O thread does about large values: fetches held results, lends what is stored here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import zmq

from manyhands.fetcher import fetcher, without_payload
from manyhands.intake import Intake
from manyhands.session.types import Fetch, Fetched
from manyhands.store import Store
from manyhands_shared.loans import Lender
from manyhands_shared.messages import Message, Stock


class Exchange:
    """The store and the fetches of a session, all but the store for the I/O thread alone.

    Args:
        session: the session's secret token.
        intake: leads to the I/O thread.
        poller: the thread's, where descriptors are registered.
        send: sends a message if the session is open.
    """

    def __init__(
        self, session: bytes, intake: Intake, poller: zmq.Poller, send: Callable[[Message], None]
    ) -> None:
        #: Large values that tasks refer to.
        self.store = Store(session, intake, self._lend)
        self._poller = poller
        self._send = send
        self._lender: Lender | None = None
        self._fetcher = fetcher()
        self._refused: list[Fetched] = []
        if self._fetcher is not None:
            poller.register(self._fetcher.fd, zmq.POLLIN)

    @property
    def pending(self) -> bool:
        """Whether `turn` has something to do of which no descriptor tells."""
        return bool(self._refused) or (self._fetcher is not None and self._fetcher.pending)

    def fetch(self, wanted: Fetch) -> None:
        """Begin to fetch a result; `turn` brings it."""
        if self._fetcher is None:  # whoever offers this was told so, and yet
            self._refused.append(without_payload(wanted))
        else:
            self._fetcher.fetch(wanted)

    def turn(self, ready: Mapping[Any, int]) -> list[Fetched]:
        """Serve what has come; returns the fetches that are over."""
        over, self._refused = self._refused, []
        if self._lender is not None and self._lender.fd in ready:
            self._lender.turn()
        if self._fetcher is not None and (self._fetcher.fd in ready or self._fetcher.pending):
            over += self._fetcher.turn()
        return over

    def supply(self, key: bytes) -> None:
        """Send what a node cannot borrow, or that it is not here."""
        self._send(Stock(key, self.store.supply(key, self._gone)))

    def close(self) -> None:
        """The session is over. What was fetched stays."""
        if self._fetcher is not None:
            self._fetcher.close()
        self.store.close()

    def _lend(self, lender: Lender) -> None:
        self._lender = lender
        self._poller.register(lender.fd, zmq.POLLIN)

    def _gone(self, key: bytes) -> None:
        self._send(Stock(key, []))
