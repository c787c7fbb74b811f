"""How much has come of messages that have not ended yet, over connections that ZeroMQ has accepted.

ZeroMQ hands a message over when its last frame has come. What came before it keeps untold, however
much that is. But the system counts the bytes of each connection (`TCP_INFO`, on Linux). So what
has come since a connection's last whole message is known as well as one looks often.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import Any

#: Where `struct tcp_info` has its count of bytes that came, as 64 bits.
_BYTES_RECEIVED = 128
#: What heartbeats may take, in bytes a second: they come whether a message is on its way or not.
_HEARTBEATS = 128.0


class _Connection:
    __slots__ = ("base", "far_end", "measured_at")

    def __init__(self, far_end: Any, now: float) -> None:
        self.far_end = far_end
        #: Bytes up to the last whole message, heartbeats since then included; and when that was so.
        self.base = 0.0
        self.measured_at = now


class UnfinishedInput:
    """The connections of one listening socket, by their descriptors.

    A descriptor may be another connection's by the time it is looked at. So a connection is known by
    its far end.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Connection] = {}
        self._heard: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def came(self, descriptor: int, now: float) -> None:
        """A connection was accepted."""
        with contextlib.suppress(OSError), _Borrowed(descriptor) as sock:
            self._known[descriptor] = _Connection(sock.getpeername(), now)

    def gone(self, descriptor: int) -> None:
        """A connection has ended."""
        self._known.pop(descriptor, None)
        self._heard.discard(descriptor)

    def heard(self, descriptor: int) -> None:
        """A whole message has come over a connection."""
        self._heard.add(descriptor)

    def measure(self, now: float) -> dict[int, int]:
        """Return the bytes that have come behind the last whole message, of connections with any.

        What came in the same moment as such a message is not told from it.
        """
        found: dict[int, int] = {}
        for descriptor, known in self._known.items():
            total = _received(descriptor)
            known.base += (now - known.measured_at) * _HEARTBEATS
            known.measured_at = now
            if descriptor in self._heard or total <= known.base:
                known.base = float(total)
            else:
                found[descriptor] = int(total - known.base)
        self._heard.clear()
        return found

    def shut(self, descriptor: int) -> None:
        """Shut a connection down. ZeroMQ then closes it as if the peer had left, and drops what came."""
        known = self._known.pop(descriptor, None)
        if known is None:
            return
        with contextlib.suppress(OSError), _Borrowed(descriptor) as sock:
            if sock.getpeername() == known.far_end:
                sock.shutdown(socket.SHUT_RDWR)


class _Borrowed:
    """A descriptor of ZeroMQ's as a socket, which is not closed with it. May raise OSError."""

    def __init__(self, descriptor: int) -> None:
        # With family and kind the system is not asked for them.
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()


def _received(descriptor: int) -> int:
    """The bytes that have come over a connection so far; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    try:
        with _Borrowed(descriptor) as sock:
            raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
    except OSError:
        return 0
    if len(raw) < _BYTES_RECEIVED + 8:
        return 0
    return int(struct.unpack_from("<Q", raw, _BYTES_RECEIVED)[0])
