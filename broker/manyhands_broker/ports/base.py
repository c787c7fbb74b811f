"""What the loop asks of a port: a place where peers come in.

There are three: `zeromq` for other machines, `unix` for this machine, `inprocess` for a node in the
broker's process. Each knows its peers by ids of its own. So a message goes to the port with its peer.
"""

# ruff: noqa: B027 - what a port has no need of it leaves out

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from manyhands_broker.core import Event
from manyhands_shared.protocol.messages import Message

#: Messages read before the loop decides and sends. More would make the first wait for the last.
DRAIN_MESSAGES = 512
#: The same in time: 512 messages of 4,096 tasks each would take seconds.
DRAIN_SECONDS = 0.05

#: Takes what a port has received: `Received` and `LinkClosed`.
Take = Callable[[Event], None]


class Port(ABC):
    """Receives from peers and sends to them; registers its descriptors with the loop's poller."""

    @abstractmethod
    def due(self, now: float) -> float:
        """Return when `receive` has something to do that no descriptor tells of; 0.0 is at once."""

    @abstractmethod
    def receive(self, ready: Mapping[int, int], now: float, take: Take) -> None:
        """Hand to `take` what has come, within the bounds of a drain.

        Args:
            ready: descriptors that are ready, with poll's events; also those of others.
            now: the time.
            take: the loop's.
        """

    @abstractmethod
    def send(self, peer: bytes, message: Message) -> bool:
        """Send, or keep until the peer takes it. Return false if the peer is not here."""

    @abstractmethod
    def close(self) -> None:
        """End all connections."""

    def finish(self) -> None:
        """End a turn of the loop: all its messages are sent."""

    def check(self, now: float) -> None:
        """Do what is to be done now and then; every turn that has done so has received before."""

    def pause(self, *, on: bool) -> None:
        """Read nothing until this is switched off."""

    def forget(self, peer: bytes) -> None:
        """Drop what is kept for a peer: the scheduler sends nothing to it any more."""

    def stalled(self, now: float) -> None:
        """Take into account that this process did not run until `now`."""
