"""The node's side of the wire: one `Link` at a time.

A lost connection ends a link for good. The next one is opened after a pause that doubles, with jitter,
so that a thousand nodes do not come back in the same moment. The first connection of each link is left
to the link, which tries for ever.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands_shared.errors import NotAuthorised
from manyhands_shared.protocol.messages import Message
from manyhands_shared.transport.address import foreign, is_unix
from manyhands_shared.transport.link import Link, LinkEvent, connect
from manyhands_worker.core import events as a

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials
    from manyhands_shared.transport.failover import Route

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Transport:
    """See the module.

    Args:
        route: the ways to the broker.
        key_file: the cluster key's file, or empty.
        connect: makes links in another way than by `route`.

    Raises:
        ConfigError: the key file cannot be used.
    """

    def __init__(
        self, route: Route, key_file: str, connect: Callable[[], Link] | None = None
    ) -> None:
        self._route = route
        self._connect = connect or self._connect_by_route
        self._keys: Credentials | None = None
        if key_file:
            from manyhands_shared.security.role_key import credentials  # noqa: PLC0415 - 10 ms for a few nodes
            from manyhands_worker.host.key_hiding import let_go  # noqa: PLC0415 - as said above

            self._keys = credentials(Path(key_file), "worker")
            let_go(key_file)
        self._link: Link | None = None
        self._established = False
        self._woken = False
        self._pause = _FIRST_PAUSE
        self._open_at: float | None = 0.0

    @property
    def descriptors(self) -> frozenset[int]:
        """What `wake` is to be called for when it can be read, or written if `polls_out`."""
        return self._link.descriptors if self._link is not None else frozenset()

    @property
    def polls_out(self) -> bool:
        """Whether descriptors are watched for writing as well."""
        return self._link is not None and self._link.polls_out

    @property
    def deadline(self) -> float | None:
        """When `turn` has something to do, if no descriptor does."""
        return self._link.deadline if self._link is not None else self._open_at

    def wake(self) -> None:
        """Something may have happened on a descriptor."""
        self._woken = True

    def pending(self) -> bool:
        """Whether `turn` has something to do at once, of which no descriptor will tell."""
        if self._link is not None and self._link.pending():
            self._woken = True
        return self._woken

    def turn(self, now: float) -> list[a.Event]:
        """Open the link if it is time, and take what has come.

        Raises:
            NotAuthorised: the broker refuses the key.
            ConfigError: the system does not know such an address.
        """
        if self._open_at is not None and now >= self._open_at:
            self._open_at = None
            self._link = self._connect()
        if not self._woken and (self._link is None or self._link.deadline is None):
            return []
        self._woken = False
        events = self._watch(now)
        if self._link is not None:
            events += map(a.Received, self._link.receive())
            if self._link.congested:
                self._link.drain()
        return events

    def _connect_by_route(self) -> Link:
        route = self._route
        return connect(route.current, b"\1" + os.urandom(15), self._keys, others=route.has_others)

    def _watch(self, now: float) -> list[a.Event]:
        events: list[a.Event] = []
        while self._link is not None and (event := self._link.event(now)) is not None:
            if event is LinkEvent.UP:
                self._established = True
                self._pause = _FIRST_PAUSE
                events.append(a.LinkUp())
            elif event is LinkEvent.LOST:
                # Before the handshake the link goes on trying by itself.
                if self._established:
                    self.reconnect(now)
                    events.append(a.LinkLost("the connection broke"))
            elif event is LinkEvent.FAILED:
                if not self._established and self._route.failed():
                    self._close_link()
                    self._open_at = now
            elif event is LinkEvent.DENIED:
                raise NotAuthorised(self._unauthorised())
        return events

    def _unauthorised(self) -> str:
        if is_unix(self._route.current):
            return foreign(self._route.current)
        if self._keys is None:
            return f"the broker at {self._route.current} wants a key; name its file with --key-file"
        return (
            f"the broker at {self._route.current} does not accept this key; copy its key file here, or "
            "have this one allowed there with: manyhands keys allow"
        )

    def send(self, message: Message) -> None:
        """Send a message, or keep it until the link takes it. Without a link it is dropped."""
        if self._link is not None:
            self._link.send(message)

    def reconnect(self, now: float) -> None:
        """Give up this link; another is opened after a pause."""
        self._close_link()
        self._open_at = now + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _close_link(self, *, flush: bool = False) -> None:
        self._established = self._woken = False
        if self._link is not None:
            self._link.close(flush=flush)
            self._link = None

    def close(self) -> None:
        """End the link, with a moment for what was sent last."""
        self._open_at = None
        self._close_link(flush=True)
