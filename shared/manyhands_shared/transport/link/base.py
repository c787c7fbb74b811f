"""What the loops of clients and nodes see of a link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message


class LinkEvent(Enum):
    """What the connection did."""

    UP = "up"
    LOST = "lost"
    #: The other end said no to the handshake.
    DENIED = "denied"
    #: The other end broke the handshake off: it may not know our key, or only be starting.
    BROKEN = "broken"
    #: No connection; there are other addresses to try.
    FAILED = "failed"


class Link(ABC):
    """One connection attempt and its life. Belongs to one thread at a time.

    A loop waits until one of `descriptors` can be read, or written if `polls_out`, or `deadline` has
    come. It does not wait while something is `pending`. Then it takes each `event`, and what `receive`
    has.
    """

    #: What becomes readable when something may have happened. Another set object when they change.
    descriptors: frozenset[int] = frozenset()
    #: When something is to be done that no descriptor tells of; seconds of the monotonic clock.
    deadline: float | None = None
    #: Messages that were no messages.
    garbage = 0

    @property
    @abstractmethod
    def congested(self) -> bool:
        """Whether messages wait because no more is taken for now."""

    #: Whether `descriptors` tell by being writable that it may go on.
    polls_out = False

    @abstractmethod
    def pending(self) -> bool:
        """Whether there is something to do at once that no descriptor will tell of.

        True until `event` and `receive` have been called: another thread than the asker may do that.
        """

    def woken(self, descriptor: int | None) -> None:
        """Note that a descriptor is ready; `None`: any of them may be."""
        del descriptor

    @abstractmethod
    def event(self, now: float) -> LinkEvent | None:
        """The next thing that the connection did, or `None`."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send, behind whatever waits; never blocks."""

    @abstractmethod
    def drain(self) -> None:
        """Hand on what is taken of what waits."""

    @abstractmethod
    def close(self, *, flush: bool = False) -> None:
        """Let go of it; with `flush`, what was sent last gets a moment to leave."""

    @abstractmethod
    def disown(self) -> None:
        """In a forked child: let the connection be the parent's alone."""

    @abstractmethod
    def receive(self) -> list[Message]:
        """Messages that have come, up to a bound; of the rest `pending` or a descriptor will tell."""

    def _decode(self, frames: Sequence[Buffer], messages: list[Message]) -> None:
        try:
            messages.append(wire.decode(frames))
        except ProtocolError as error:
            cause = error.__context__
            if cause is not None and is_from_handler(cause):
                raise cause from None
            self.garbage += 1
