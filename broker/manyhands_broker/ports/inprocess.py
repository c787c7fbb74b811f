"""A node that lives in the broker's own process, and turns when the broker's loop turns.

A cluster of one machine needs no socket between the two: a lone task saves four system calls, four
times encoding or decoding, and twice waking another process up.
"""

from __future__ import annotations

import math
import select
import selectors
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from manyhands_broker.core import ANYBODY, Event, LinkClosed, Received
from manyhands_shared.protocol.messages import Message
from manyhands_shared.transport.link import Link
from manyhands_shared.transport.link.inprocess import Junction

_IN, _OUT = select.POLLIN, select.POLLOUT
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Lodger(Protocol):
    """What is asked of the node."""

    @property
    def deadline(self) -> float:
        """When it is to turn, if nothing happens before."""

    @property
    def code(self) -> int | None:
        """Its exit code once it has left, and the broker is to follow."""

    def turn(self, now: float) -> None:
        """Deal with what has happened."""


class Lodge(Protocol):
    """Makes the node, which registers its descriptors with `selector` and `connect`s for links."""

    def __call__(
        self, *, selector: selectors.BaseSelector, connect: Callable[[], Link]
    ) -> AbstractContextManager[Lodger]: ...


class Lodging(selectors.BaseSelector):
    """Gives a node its place in the loop: the selector and the junction of a `Lodger`.

    Args:
        watch: has the loop call something when a descriptor is ready.
        ignore: has it watch a descriptor no more.
    """

    def __init__(
        self,
        watch: Callable[[int, Callable[[int], object], int], None],
        ignore: Callable[[int], None],
    ) -> None:
        self._watch = watch
        self._ignore = ignore
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._stirred = False
        self._lodger: Lodger | None = None
        self._due: float | None = None  # not known
        self.junction = Junction()

    def take_in(self, lodger: Lodger) -> None:
        """Have this node turn from now on."""
        self._lodger = lodger
        self._stirred = True

    # For the loop

    @property
    def due(self) -> float:
        """When `turn` has something to do, if no descriptor says so."""
        if self._stirred or self.junction.mail or self.junction.pending:
            return 0.0
        if self._due is None:
            self._due = self._lodger.deadline if self._lodger is not None else math.inf
        return self._due

    @property
    def code(self) -> int | None:
        """The node's exit code once it has left."""
        return None if self._lodger is None else self._lodger.code

    def turn(self, now: float) -> None:
        """Let the node turn, if there is anything for it."""
        lodger = self._lodger
        if lodger is None or not (self._stirred or self.junction.pending or now >= self.due):
            return
        if self._due is None:
            self._due = lodger.deadline  # it has to be asked for before each turn
        self._stirred = False
        self._due = None
        lodger.turn(now)

    def events(self) -> list[Event]:
        """What the node has said since the last call."""
        mail, events = self.junction.mail, list[Event]()
        while mail:
            peer, message = mail.popleft()
            events.append(LinkClosed(peer) if message is None else Received(peer, message, ANYBODY))
        return events

    def send(self, peer: bytes, message: Message) -> bool:
        """Give the node a message; false if it is for somebody else."""
        return self.junction.send(peer, message)

    # For the node

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`; `data` is called with the events that came."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._keys[descriptor] = key

        def ready(found: int) -> None:
            self._stirred = True
            # As the standard library has it: an end or an error is for whoever listens to either.
            data(((found & ~_OUT and _READ) | (found & ~_IN and _WRITE)) & events)

        wanted = (_IN if events & _READ else 0) | (_OUT if events & _WRITE else 0)
        self._watch(descriptor, ready, wanted)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._ignore(descriptor)
        return self._keys.pop(descriptor)

    def select(  # the base's argument
        self,
        timeout: float | None = None,  # noqa: ARG002
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing: the loop does."""
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What is registered, by descriptor."""
        return self._keys
