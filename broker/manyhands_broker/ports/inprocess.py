"""A node that lives in the broker's own process, and turns when the broker's loop turns.

A cluster of one machine needs no socket between the two. A lone task saves four system calls, encoding
or decoding four times, and waking another process up twice.
"""

from __future__ import annotations

import math
import select
import selectors
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from manyhands_broker.core import ANYBODY, LinkClosed, Received
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import Port, Take
from manyhands_shared.clock import Clock
from manyhands_shared.protocol.messages import Message
from manyhands_shared.transport.link import Link
from manyhands_shared.transport.link.inprocess import InProcessHub

_IN, _OUT = select.POLLIN, select.POLLOUT
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class EmbeddedNode(Protocol):
    """What is asked of the node."""

    @property
    def deadline(self) -> float:
        """When it is to turn, if nothing happens before."""

    @property
    def code(self) -> int | None:
        """Its exit code once it has left, and the broker is to follow."""

    def turn(self, now: float) -> None:
        """Deal with what has happened."""


class MakeNode(Protocol):
    """Makes the node, which registers its descriptors with `selector` and `connect`s for links."""

    def __call__(
        self, *, selector: selectors.BaseSelector, connect: Callable[[], Link]
    ) -> AbstractContextManager[EmbeddedNode]: ...


class InProcessPort(Port):
    """Has a node turn in the broker's loop, and carries the messages between the two.

    Args:
        poller: where the node's descriptors are registered.
        clock: the monotonic clock.
    """

    def __init__(self, poller: Poller, clock: Clock) -> None:
        self._clock = clock
        self._node: EmbeddedNode | None = None
        self._on_exit: Callable[[], None] | None = None
        self._due: float | None = None  # not known
        self.hub = InProcessHub()
        self.selector = NodeSelector(poller)

    def take_in(self, node: EmbeddedNode, on_exit: Callable[[], None]) -> None:
        """Have this node turn from now on; call `on_exit` when it has left."""
        self._node = node
        self._on_exit = on_exit
        self.selector.stirred = True

    @property
    def code(self) -> int | None:
        """The node's exit code once it has left."""
        return None if self._node is None else self._node.code

    def due(self, now: float) -> float:  # noqa: ARG002 - the node knows by itself
        """See `Port`."""
        return 0.0 if self.hub.mail else self._node_due()

    def receive(self, ready: Mapping[int, int], now: float, take: Take) -> None:  # noqa: ARG002
        """See `Port`. Time has passed since `now` while other ports were read."""
        self._turn(self._clock())
        mail = self.hub.mail
        while mail:
            peer, message = mail.popleft()
            take(LinkClosed(peer) if message is None else Received(peer, message, ANYBODY))

    def send(self, peer: bytes, message: Message) -> bool:
        """See `Port`."""
        return self.hub.send(peer, message)

    def finish(self) -> None:
        """Let the node turn with what it has just been sent."""
        self._turn(self._clock())
        if self._node is not None and self._node.code is not None and self._on_exit is not None:
            self._on_exit()

    def close(self) -> None:
        """Nothing: the node closes its links."""

    def _node_due(self) -> float:
        """When the node is to turn."""
        if self.selector.stirred or self.hub.pending:
            return 0.0
        if self._due is None:
            self._due = self._node.deadline if self._node is not None else math.inf
        return self._due

    def _turn(self, now: float) -> None:
        """Let the node turn, if there is anything for it."""
        node = self._node
        if node is None or now < self._node_due():
            return
        if self._due is None:
            self._due = node.deadline  # it has to be asked for before each turn
        self.selector.stirred = False
        self._due = None
        node.turn(now)


class NodeSelector(selectors.BaseSelector):
    """What the node registers its descriptors with: the broker's loop waits for them.

    Args:
        poller: the loop's.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._keys: dict[int, selectors.SelectorKey] = {}
        #: Whether anything was ready since the node's last turn.
        self.stirred = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`; `data` is called with the events that came."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._keys[descriptor] = key

        def ready(found: int) -> None:
            self.stirred = True
            # As the standard library has it: an end or an error is for both kinds of listeners.
            data(((found & ~_OUT and _READ) | (found & ~_IN and _WRITE)) & events)

        wanted = (_IN if events & _READ else 0) | (_OUT if events & _WRITE else 0)
        self._poller.on_ready(descriptor, ready, wanted)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._poller.ignore(descriptor)
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
