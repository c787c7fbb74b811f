"""A link: one DEALER socket to the broker, for as long as its connection lives.

Belongs to the I/O thread alone. When an established connection is lost the link is replaced by a
new one with a new routing id, so nothing that was sent to the old one can arrive on the new.
"""

from __future__ import annotations

import secrets
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

import zmq

from manyhands_shared import monitor, wire
from manyhands_shared.errors import ProtocolError
from manyhands_shared.messages import Message
from manyhands_shared.serial import Buffer

if TYPE_CHECKING:
    from manyhands_shared.role_key import Credentials

_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 6_000
_RECONNECT_MS = 100
#: A broker that is back within seconds is found within one; more would outlast its own restart.
_RECONNECT_MAX_MS = 1_000
_LINGER_MS = 500
# Plain numbers: arithmetic on pyzmq's enumerations costs as much as sending a small frame.
_DONTWAIT, _STATE = int(zmq.DONTWAIT), int(zmq.EVENTS)
_MORE, _IN = int(zmq.RCVMORE), int(zmq.POLLIN)


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


_EVENTS = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkEvent.UP,
    zmq.EVENT_DISCONNECTED: LinkEvent.LOST,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkEvent.DENIED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: LinkEvent.DENIED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: LinkEvent.BROKEN,
}
#: Told as well where there are others to try; then none is waited for as long as the system would.
_FAILED = {zmq.EVENT_CONNECT_RETRIED: LinkEvent.FAILED}
_PATIENCE_MS = 3_000


class Link:
    """One connection attempt and its life. `close` must be called from the thread that made it.

    `others`: whether there are other addresses to try, so that a failure is to be told.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        key: Credentials | None,
        *,
        others: bool = False,
    ) -> None:
        socket = context.socket(zmq.DEALER)
        self.socket = socket
        self._backlog: deque[list[Buffer]] = deque()
        #: Messages that were no messages.
        self.garbage = 0
        socket.linger = 0
        socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16))
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        socket.setsockopt(zmq.IPV6, 1)
        if key is not None:
            socket.curve_publickey, socket.curve_secretkey = key.pair.public, key.pair.secret
            socket.curve_serverkey = key.server
        self._events = {**_EVENTS, **_FAILED} if others else _EVENTS
        if others:
            socket.setsockopt(zmq.CONNECT_TIMEOUT, _PATIENCE_MS)
            socket.setsockopt(zmq.HANDSHAKE_IVL, _PATIENCE_MS)
        self.monitor = socket.get_monitor_socket(sum(self._events))
        self.monitor.linger = 0
        socket.connect(address)

    @property
    def congested(self) -> bool:
        """Whether messages wait because ZeroMQ takes no more for now."""
        return bool(self._backlog)

    def send(self, message: Message) -> None:
        """Send, behind whatever waits; never blocks."""
        self._backlog.append(wire.encode(message))
        self.drain()

    def drain(self) -> None:
        """Hand to ZeroMQ what it takes of what waits."""
        while self._backlog:
            frames = self._backlog[0]
            try:
                if len(frames) == 1:
                    self.socket.send(frames[0], _DONTWAIT)
                else:
                    self.socket.send_multipart(frames, _DONTWAIT, copy=False)
            except zmq.Again:
                return
            self._backlog.popleft()

    def receive(self) -> Message | None:
        """The next message, or `None` if there is none now. What makes no sense is counted."""
        socket = self.socket
        # Asked for first: an exception for each last message costs more than this for each message.
        while int(socket.get(_STATE)) & _IN:
            frames: list[Buffer] = [socket.recv(_DONTWAIT)]
            while socket.get(_MORE):
                frames.append(socket.recv(_DONTWAIT, copy=False))
            try:
                return wire.decode(frames)
            except ProtocolError:
                self.garbage += 1
        return None

    def event(self) -> LinkEvent | None:
        """The next thing the connection did, or `None`."""
        found = monitor.read(self.monitor)
        return None if found is None else self._events.get(zmq.Event(found[0]))

    def close(self, *, flush: bool = False) -> None:
        """Let go of the socket; with `flush`, what was sent last gets a moment to leave."""
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger=_LINGER_MS if flush else 0)
