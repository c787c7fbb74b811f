"""Messages of peers as frames, both ways: also frames that are no message, and the reverse."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message, Ping, Reply

log = logging.getLogger("manyhands.broker")

#: Peers whose invalid messages are logged, once for each.
_LOGGED_PEERS = 1_000


class Codec:
    """Encodes and decodes for the ports.

    Args:
        breakdowns: where messages are reported that no frames can be made of.
        counters: where invalid messages are counted.
    """

    def __init__(self, breakdowns: Breakdowns, counters: Counter[str]) -> None:
        self._breakdowns = breakdowns
        self._complained: set[bytes] = set()
        self.counters = counters

    def encode(self, message: Message) -> list[Buffer]:
        """The frames of a message.

        In place of an answer that cannot be sent goes one that says so; of any other message, a ping.
        """
        try:
            frames = wire.encode(message)
            size = len(frames[0])
            if size <= wire.MAX_HEADER_BYTES:
                return frames
            raise ProtocolError(f"a header of {size} bytes, {wire.MAX_HEADER_BYTES} are allowed")
        except (ProtocolError, OverflowError, TypeError, ValueError) as error:
            self._breakdowns.of(error, None, f"{type(message).__name__} cannot be sent")
            if not isinstance(message, Reply):
                return wire.encode(Ping(0))
            return wire.encode(Reply(message.request, f"the answer cannot be sent: {error}", None))

    def decode(self, peer: bytes, frames: Sequence[Buffer]) -> Message | None:
        """The message of these frames; `None` if they are none, and what the peer sent is dropped."""
        try:
            return wire.decode(frames)
        except ProtocolError as error:
            self.complain(peer, error)
            return None

    def complain(self, peer: bytes, error: ProtocolError) -> None:
        """Count what a peer sent and is no message; log the first of each peer."""
        self.counters["invalid_messages"] += 1
        if peer not in self._complained and len(self._complained) < _LOGGED_PEERS:
            self._complained.add(peer)
            log.warning("dropped what peer %s sent: %s", peer.hex()[:12], error)
