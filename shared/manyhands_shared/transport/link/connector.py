"""Keeps a client or a node connected to its broker: one `Link` after the other.

A link that is lost ends for good. The next one is opened after a pause that doubles, with jitter, so
that a thousand nodes do not come back in the same moment. A link makes its own first connection, and
tries for ever, unless the route has other addresses to try.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from manyhands_shared.errors import NotAuthorised
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record
from manyhands_shared.transport.address import foreign, is_unix
from manyhands_shared.transport.link import Link, LinkEvent, connect

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials
    from manyhands_shared.transport.failover import Route

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_WRONG_KEY = (
    "does not accept this key; use its key file, "
    "or have this key allowed there with: manyhands keys allow"
)


@record
class Up:
    """The broker has taken the handshake; messages can be sent."""


@record
class Lost:
    """The connection broke after it had been up. The next link is opened after a pause."""


def _nothing() -> None:
    """Do nothing before a link closes."""


class Connector:
    """Opens links by `route` and watches the present one. Belongs to one thread.

    A loop polls `descriptors` and calls `wake` when one of them is ready. It calls `turn` then, and
    when `deadline` has come or `pending` is true.

    Args:
        route: the addresses of the broker.
        key: what the broker is to accept; None for a broker without a key.
        key_option: how the user names a key file, for the error where the broker wants a key.
        wrong_key: the error where the broker refuses `key`, without its subject.
        broken_handshakes: handshakes that may break off before the broker counts as refusing, as long
            as no link was ever up. 0: try for ever. One handshake starts each 100 ms.
        before_close: called before a link closes, while its descriptors are still open.
        connect: makes links in another way than by `route`.
    """

    def __init__(
        self,
        route: Route,
        key: Credentials | None,
        *,
        key_option: str,
        wrong_key: str = _WRONG_KEY,
        broken_handshakes: int = 0,
        before_close: Callable[[], None] = _nothing,
        connect: Callable[[], Link] | None = None,
    ) -> None:
        #: The present link; None while a pause lasts.
        self.link: Link | None = None
        self._route = route
        #: What the broker is to accept.
        self.key = key
        self._key_option = key_option
        self._wrong_key = wrong_key
        self._broken_handshakes = broken_handshakes
        self._before_close = before_close
        self._connect = connect or self._connect_by_route
        self._open_at: float | None = 0.0
        self._pause = _FIRST_PAUSE
        self._is_up = False
        self._was_up = False
        self._broken = 0
        self._woken = False

    @property
    def descriptors(self) -> frozenset[int]:
        """What tells by being readable that `wake` is due, or by being writable if `polls_out`."""
        return self.link.descriptors if self.link is not None else frozenset()

    @property
    def polls_out(self) -> bool:
        """Whether descriptors are polled for writing as well."""
        return self.link is not None and self.link.polls_out

    @property
    def deadline(self) -> float | None:
        """When `turn` is due if no descriptor tells before."""
        return self.link.deadline if self.link is not None else self._open_at

    @property
    def congested(self) -> bool:
        """Whether messages wait because the link takes no more for now."""
        return self.link is not None and self.link.congested

    def wake(self, descriptor: int | None = None) -> None:
        """Note that something may have happened: on this descriptor, else on any of them."""
        self._woken = True
        if self.link is not None:
            self.link.woken(descriptor)

    def pending(self) -> bool:
        """Whether `turn` has something to do at once that no descriptor tells of."""
        if self.link is not None and self.link.pending():
            self._woken = True
        return self._woken

    def turn(self, now: float) -> Iterator[Up | Lost | Message]:
        """Open the link if that is due; yield what happened to it and the messages that came.

        When the caller gives the link up meanwhile, nothing more of that link follows.

        Raises:
            NotAuthorised: the broker refuses the key, or is not to be trusted.
            ConfigError: the system does not know such an address.
        """
        if self._open_at is not None and now >= self._open_at:
            self._open()
        link = self.link
        if link is None or not (self.pending() or link.deadline is not None):
            return
        self._woken = False
        yield from self._changes(link, now)
        if self.link is not link:
            return
        for message in link.receive():
            yield message
            if self.link is not link:
                return
        if link.congested:
            link.drain()

    def send(self, message: Message) -> None:
        """Send a message, or keep it until the link takes it. Without a link it is dropped."""
        if self.link is not None:
            self.link.send(message)

    def drain(self) -> None:
        """Hand on what waits, as far as the link takes it."""
        if self.link is not None:
            self.link.drain()

    def reconnect(self, now: float) -> None:
        """Give up the present link; another is opened after a pause."""
        if self.link is None:
            return
        self._close_link()
        self._open_at = now + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def close(self, *, flush: bool = False) -> None:
        """End for good; with `flush`, what was sent last gets a moment to leave."""
        self._open_at = None
        self._close_link(flush=flush)

    def disown(self) -> None:
        """In a forked child: leave the connection to the parent."""
        if self.link is not None:
            self.link.disown()

    def _open(self) -> None:
        self._open_at = None
        self.link = self._connect()

    def _connect_by_route(self) -> Link:
        # ZeroMQ keeps routing ids that begin with zero for itself.
        routing_id = b"\1" + os.urandom(15)
        route = self._route
        return connect(route.current, routing_id, self.key, others=route.has_others)

    def _changes(self, link: Link, now: float) -> Iterator[Up | Lost]:
        while self.link is link and (event := link.event(now)) is not None:
            if event is LinkEvent.UP:
                self._is_up = self._was_up = True
                self._pause = _FIRST_PAUSE
                yield Up()
            elif event is LinkEvent.LOST:
                # Before the handshake the link goes on trying by itself.
                if self._is_up:
                    self.reconnect(now)
                    yield Lost()
            elif event is LinkEvent.FAILED:
                if not self._is_up and self._route.failed():
                    self._close_link()
                    self._open_at = now
            elif event is LinkEvent.DENIED:
                raise NotAuthorised(self._refusal())
            else:
                self._count_broken_handshake()

    def _count_broken_handshake(self) -> None:
        """Count a handshake that broke off. A proxy may do that while its broker is away.

        Raises:
            NotAuthorised: there were too many, and never a good one.
        """
        self._broken += 1
        if self._broken == self._broken_handshakes and not self._was_up:
            raise NotAuthorised(self._refusal())

    def _refusal(self) -> str:
        address = self._route.current
        if is_unix(address):
            return foreign(address)
        if self.key is not None:
            return f"the broker at {address} {self._wrong_key}"
        return (
            f"what answers at {address} breaks off the handshake: a broker that wants a key "
            f"({self._key_option} names the file), or no broker"
        )

    def _close_link(self, *, flush: bool = False) -> None:
        self._is_up = self._woken = False
        if self.link is not None:
            self._before_close()
            self.link.close(flush=flush)
            self.link = None
