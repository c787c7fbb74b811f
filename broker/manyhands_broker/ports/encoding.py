"""Messages on their way out, as frames: also those that no frames can be made of."""

from __future__ import annotations

from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message, Ping, Reply


def frames_of(message: Message, breakdowns: Breakdowns) -> list[Buffer]:
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
        breakdowns.of(error, None, f"{type(message).__name__} cannot be sent")
        if not isinstance(message, Reply):
            return wire.encode(Ping(0))
        return wire.encode(Reply(message.request, f"the answer cannot be sent: {error}", None))
