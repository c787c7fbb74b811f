"""What a ZeroMQ socket monitor says.

`zmq.utils.monitor` has the same, and loads asyncio with it: 25 ms at the start of every process.
"""

from __future__ import annotations

import struct

import zmq

_EVENT = struct.Struct("=Hi")


def read(monitor: zmq.Socket[bytes]) -> tuple[int, int] | None:
    """The next event of a monitor socket and its value (an error, a descriptor); `None` for none now."""
    try:
        frames = monitor.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None
    event, value = _EVENT.unpack(frames[0])
    return event, value
