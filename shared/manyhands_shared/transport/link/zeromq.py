"""A link to a broker anywhere: one DEALER socket, watched by a monitor."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

import zmq

from manyhands_shared.errors import ConfigError, ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message
from manyhands_shared.transport import zmq_monitor, zmq_pieces
from manyhands_shared.transport.link.base import Link, LinkEvent

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials

_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 6_000
_RECONNECT_MS = 100
#: A broker that is back within seconds is found within one; more would outlast its own restart.
_RECONNECT_MAX_MS = 1_000
_HIGH_WATER_MARK = 1_000
_LINGER_MS = 500
#: How long an address may take, where there are others to try.
_CONNECT_MS = 3_000
#: Messages taken in at once.
_RECEIVES = 64
#: A frame of this size or more is sent from where it lies.
_COPY_BYTES = 64 << 10
# Plain numbers: arithmetic on pyzmq's enumerations costs as much as sending a small frame.
_NOBLOCK, _STATE = int(zmq.NOBLOCK), int(zmq.EVENTS)
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)

_EVENTS = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): LinkEvent.UP,
    int(zmq.EVENT_DISCONNECTED): LinkEvent.LOST,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): LinkEvent.DENIED,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): LinkEvent.DENIED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): LinkEvent.BROKEN,
}
#: Told as well where there are others to try; then none is waited for as long as the system would.
_FAILED = {int(zmq.EVENT_CONNECT_RETRIED): LinkEvent.FAILED}


class ZmqLink(Link):
    """See `Link`, and `connect` for the arguments."""

    def __init__(
        self, address: str, routing_id: bytes, key: Credentials | None, *, others: bool
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sock = self._context.socket(zmq.DEALER)
        self._socket = sock
        self._backlog: deque[list[Buffer]] = deque()
        # A descriptor of ZeroMQ's tells only that something has changed since its socket was last looked
        # at. So both are looked at once, and that of messages again after it was used for sending.
        self._new = True
        #: Whether the monitor may have something: to ask it takes as long as to receive a message.
        self._has_news = True
        self._used = True
        sock.linger = 0
        sock.set(zmq.ROUTING_ID, routing_id)
        sock.set(zmq.MAXMSGSIZE, zmq_pieces.MAX_ZMQ_BYTES)
        sock.set(zmq.SNDHWM, _HIGH_WATER_MARK)
        sock.set(zmq.RCVHWM, _HIGH_WATER_MARK)
        sock.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        sock.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        sock.set(zmq.RECONNECT_IVL, _RECONNECT_MS + random.randrange(_RECONNECT_MS))
        sock.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        sock.set(zmq.IPV6, 1)
        if key is not None:
            sock.set(zmq.CURVE_PUBLICKEY, key.pair.public)
            sock.set(zmq.CURVE_SECRETKEY, key.pair.secret)
            sock.set(zmq.CURVE_SERVERKEY, key.server)
        self._events = {**_EVENTS, **_FAILED} if others else _EVENTS
        if others:
            sock.set(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
            sock.set(zmq.HANDSHAKE_IVL, _CONNECT_MS)
        self._monitor = sock.get_monitor_socket(sum(self._events))
        self._monitor.linger = 0
        self._monitor_descriptor = int(self._monitor.fd)
        self.descriptors = frozenset({int(sock.fd), self._monitor_descriptor})
        try:
            sock.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"cannot connect to {address}: {error}") from None

    @property
    def congested(self) -> bool:
        return bool(self._backlog)

    def pending(self) -> bool:
        # It says so again until `receive` has looked: to ask is enough for the descriptor to go quiet.
        if self._new:
            return True
        if self._used:
            state = int(self._socket.get(_STATE))
            self._used = bool(state & _IN or (state & _OUT and self._backlog))
        return self._used

    def woken(self, descriptor: int | None) -> None:
        if descriptor is None or descriptor == self._monitor_descriptor:
            self._has_news = True

    def event(self, now: float) -> LinkEvent | None:  # noqa: ARG002 - ZeroMQ has clocks of its own
        if not self._has_news:
            return None
        while (found := zmq_monitor.read(self._monitor)) is not None:
            if (event := self._events.get(found[0])) is not None:
                return event
        self._new = self._has_news = False
        return None

    def send(self, message: Message) -> None:
        self._backlog.append(zmq_pieces.cut(wire.encode(message)))
        self.drain()

    def drain(self) -> None:
        sock = self._socket
        if sock.closed:  # the I/O thread has taken it from a caller that is still in here
            self._backlog.clear()
        while self._backlog:
            frames = self._backlog[0]
            self._used = True
            try:
                if len(frames) == 1 and len(frames[0]) < _COPY_BYTES:
                    sock.send(frames[0], _NOBLOCK)
                else:
                    sock.send_multipart(frames, _NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._backlog.popleft()

    def receive(self) -> list[Message]:
        sock = self._socket
        self._used = True
        messages: list[Message] = []
        # Asked for first: an exception for each last message costs more than this for each message.
        for _ in range(_RECEIVES):
            if not int(sock.get(_STATE)) & _IN:
                self._used = False
                break
            # Payloads stay in ZeroMQ's memory.
            header = sock.recv(_NOBLOCK, copy=False)
            if not header.more:
                self._decode([header.buffer], messages)
                continue
            try:
                self._decode(zmq_pieces.receive(header, sock), messages)
            except ProtocolError:
                self.garbage += 1
        self.drain()
        return messages

    def close(self, *, flush: bool = False) -> None:
        if self._socket.closed:
            return
        self.descriptors = frozenset()
        self._new = self._used = False
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(linger=_LINGER_MS if flush else 0)
        self._context.term()

    def disown(self) -> None:
        pass  # ZeroMQ lets a child neither use nor close what its parent has opened
