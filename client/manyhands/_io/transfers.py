"""What the I/O thread does about large values: fetches held results, lends what is stored here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from manyhands._io.fetches import answer, fetcher
from manyhands._io.poller import Readiness
from manyhands._io.submit_queue import Intake
from manyhands._session.effects import Fetch
from manyhands._session.events import Fetched
from manyhands._values.store import Store
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Message, Stock
from manyhands_shared.shm import Lender

if TYPE_CHECKING:
    from manyhands._values.remote_fetch import Direct


class Exchange:
    """The store and the fetches of a session, all but the store for the I/O thread alone.

    Args:
        session: the session's secret token.
        intake: leads to the I/O thread.
        poller: the thread's, where descriptors are registered.
        send: sends a message if the session is open.
        keyed: whether the cluster has a key, so that results may be fetched from other hosts.
    """

    def __init__(
        self,
        session: bytes,
        intake: Intake,
        poller: Readiness,
        send: Callable[[Message], None],
        *,
        keyed: bool,
    ) -> None:
        #: Large values that tasks refer to.
        self.store = Store(session, intake, self._lend)
        self._poller = poller
        self._send = send
        self._lender: Lender | None = None
        self._intake = intake
        self._direct = self._open_direct() if keyed else None
        self._fetcher = fetcher(self._direct)
        self._ended: list[Fetched] = []
        if self._fetcher is not None:
            poller.register(self._fetcher.fd)

    def _open_direct(self) -> Direct:
        from manyhands._values.remote_fetch import Direct  # noqa: PLC0415 - 20 ms with ZeroMQ, for clusters with a key

        return Direct(self._over)

    @property
    def pending(self) -> bool:
        """Whether `turn` has something to do of which no descriptor tells."""
        return bool(self._ended) or (self._fetcher is not None and self._fetcher.pending)

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a job, with what its nodes must know of this session."""
        if self._direct is None or not options.get("direct"):
            return options
        return {**options, "fetch_key": self._direct.public}

    def fetch(self, wanted: Fetch) -> None:
        """Begin to fetch a result; `turn` brings it."""
        if self._fetcher is None:  # whoever offers this was told so, and yet
            self._ended.append(answer(wanted))
        else:
            self._fetcher.fetch(wanted)

    def turn(self, ready: Mapping[Any, int]) -> list[Fetched]:
        """Serve what has come; returns the fetches that are over."""
        over, self._ended = self._ended, []
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
        if self._direct is not None:
            self._direct.close()
        self.store.close()

    def _over(self, wanted: Fetch, payload: Payload | None) -> None:
        """A fetch from another host is over; called on the thread for these."""
        self._intake.command(partial(self._note, answer(wanted, payload)))

    def _note(self, fetched: Fetched) -> None:
        self._ended.append(fetched)

    def _lend(self, lender: Lender) -> None:
        self._lender = lender
        self._poller.register(lender.fd)

    def _gone(self, key: bytes) -> None:
        self._send(Stock(key, []))
