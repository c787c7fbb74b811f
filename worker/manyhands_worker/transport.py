"""The link to the broker: one `DEALER` socket at a time, watched by a monitor.

A lost connection ends a link for good. The next one has a new socket with a new random routing id,
so nothing of the old can arrive on it; it is opened after a pause that doubles, with jitter, so that
a thousand nodes do not come back in the same moment. The first connection of each link is left to
ZeroMQ, which tries for ever.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from manyhands_shared import monitor, wire
from manyhands_shared.errors import ConfigError, NotAuthorised, ProtocolError
from manyhands_shared.messages import Message
from manyhands_shared.serial import Buffer
from manyhands_worker import actions as a

if TYPE_CHECKING:
    from manyhands_shared.role_key import Credentials
    from manyhands_shared.route import Route

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 6_000
_RECONNECT_MS, _LONGEST_RECONNECT_MS = 100, 1_000
#: The same to a broker on this machine, which may only be starting.
_NEAR_RECONNECT_MS, _NEAR_LONGEST_RECONNECT_MS = 10, 40
_HIGH_WATER_MARK = 1_000
# Flags and options as plain integers: arithmetic with enumerations costs more than the calls.
_EVENTS, _MORE, _NOBLOCK = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.NOBLOCK)
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
#: A frame of this size or more is sent from where it lies.
_COPY_BYTES = 64 << 10
#: Time that a goodbye has to get out.
_LINGER_MS = 500
#: How long an address may take, where there are others to try.
_PATIENCE_MS = 3_000
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


class Transport:
    """The node's side of the wire.

    Args:
        route: the ways to the broker.
        key_file: the cluster key's file, or empty.

    Raises:
        ConfigError: the key file cannot be used.
    """

    def __init__(self, route: Route, key_file: str) -> None:
        self._route = route
        self._keys: Credentials | None = None
        if key_file:
            from manyhands_shared.role_key import credentials  # noqa: PLC0415 - 10 ms for a few nodes

            self._keys = credentials(Path(key_file), "worker")
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._established = False
        self._waiting: deque[list[Buffer]] = deque()
        # A descriptor of ZeroMQ's tells only that something has changed since its socket was last
        # used. Each of the two is looked at when its descriptor has said so, and the link's once more
        # after it was used, for that may have taken the news away.
        self._woken = {"link": False, "monitor": False}
        self._used = False
        #: What can be read when something may have happened, and what to call then.
        self.descriptors: dict[int, Callable[[int], None]] = {}
        self._pause = _FIRST_PAUSE
        self._open_at: float | None = 0.0
        #: Messages that were none, and were dropped.
        self.invalid = 0

    @property
    def deadline(self) -> float | None:
        """When `turn` has something to do, if no descriptor does."""
        return self._open_at

    def turn(self, now: float) -> list[a.Event]:
        """Open the link if it is time, and take what has come.

        Raises:
            NotAuthorised: the broker refuses the key.
            ConfigError: the system does not know such an address.
        """
        if self._open_at is not None and now >= self._open_at:
            self._open()
        woken = self._woken
        events: list[a.Event] = []
        if woken["monitor"]:
            woken["monitor"] = False
            events = self._watch(now)
        if woken["link"] and self._socket is not None:
            woken["link"] = False
            self._flush()
            events += self._receive(self._socket)
        return events

    def _open(self) -> None:
        self._open_at = None
        address, watched = self._route.current, int(_WATCHED)
        sock: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        sock.set(zmq.ROUTING_ID, b"\1" + os.urandom(15))
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        sock.set(zmq.SNDHWM, _HIGH_WATER_MARK)
        sock.set(zmq.RCVHWM, _HIGH_WATER_MARK)
        sock.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        sock.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        if self._route.has_others:
            watched |= int(zmq.EVENT_CONNECT_RETRIED)
            sock.set(zmq.CONNECT_TIMEOUT, _PATIENCE_MS)
            sock.set(zmq.HANDSHAKE_IVL, _PATIENCE_MS)
        near = address.startswith("ipc://")
        first = _NEAR_RECONNECT_MS if near else _RECONNECT_MS
        longest = _NEAR_LONGEST_RECONNECT_MS if near else _LONGEST_RECONNECT_MS
        sock.set(zmq.RECONNECT_IVL, first + random.randrange(first))
        sock.set(zmq.RECONNECT_IVL_MAX, longest)
        sock.set(zmq.IPV6, 1)
        if self._keys is not None:
            sock.set(zmq.CURVE_PUBLICKEY, self._keys.pair.public)
            sock.set(zmq.CURVE_SECRETKEY, self._keys.pair.secret)
            sock.set(zmq.CURVE_SERVERKEY, self._keys.server)
        self._socket = sock
        self._monitor = sock.get_monitor_socket(watched)
        self.descriptors = {
            int(sock.fd): lambda _: self._woken.update(link=True),
            int(self._monitor.fd): lambda _: self._woken.update(monitor=True),
        }
        self._woken.update(link=True, monitor=True)
        try:
            sock.connect(address)
        except zmq.ZMQError as error:
            raise ConfigError(f"cannot connect to {address}: {error}") from None

    def _watch(self, now: float) -> list[a.Event]:
        events: list[a.Event] = []
        while self._monitor is not None and (event := monitor.read(self._monitor)) is not None:
            kind = event[0]
            if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._established = True
                self._pause = _FIRST_PAUSE
                events.append(a.LinkUp())
            elif kind == zmq.EVENT_DISCONNECTED:
                # Before the handshake ZeroMQ goes on trying by itself.
                if self._established:
                    self.reconnect(now)
                    events.append(a.LinkLost("the connection broke"))
            elif kind == zmq.EVENT_CONNECT_RETRIED:
                if not self._established and self._route.failed():
                    self._close_socket(0)
                    self._open_at = now
            else:
                raise NotAuthorised(self._unauthorised())
        return events

    def _unauthorised(self) -> str:
        if self._keys is None:
            return f"the broker at {self._route.current} wants a key; name its file with --key-file"
        return (
            f"the broker at {self._route.current} does not accept this key; copy its key file here, or "
            "have this one allowed there with: manyhands keys allow"
        )

    def _receive(self, sock: zmq.Socket[bytes]) -> list[a.Event]:
        events: list[a.Event] = []
        while _ready(sock) & _IN:
            # Headers are small and copied; payloads stay in ZeroMQ's memory.
            frames: list[Any] = [sock.recv()]
            if sock.get(_MORE):
                frames += sock.recv_multipart(copy=False)
            try:
                events.append(a.Received(wire.decode(frames)))
            except ProtocolError:
                self.invalid += 1
        return events

    def send(self, message: Message) -> None:
        """Send a message, or keep it until the socket takes it. Without a link it is dropped."""
        if self._socket is None:
            return
        self._waiting.append(wire.encode(message))
        self._flush()

    def _flush(self) -> None:
        sock = self._socket
        while self._waiting and sock is not None:
            frames: Sequence[Buffer] = self._waiting[0]
            self._used = True
            try:
                if len(frames) == 1 and len(frames[0]) < _COPY_BYTES:
                    sock.send(frames[0], _NOBLOCK)
                else:
                    sock.send_multipart(frames, _NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._waiting.popleft()

    def pending(self) -> bool:
        """Whether `turn` has something to do at once, of which no descriptor will tell."""
        if self._used and self._socket is not None:
            self._used = False
            events = _ready(self._socket)
            if events & _IN or (events & _OUT and self._waiting):
                self._woken["link"] = True
        return self._woken["link"] or self._woken["monitor"]

    def reconnect(self, now: float) -> None:
        """Give up this link; another is opened after a pause."""
        self._close_socket(0)
        self._open_at = now + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _close_socket(self, linger: int) -> None:
        self._established = self._used = False
        self._waiting.clear()
        self.descriptors = {}
        self._woken.update(link=False, monitor=False)
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger)
        if self._monitor is not None:
            self._monitor.close(0)
        self._socket = self._monitor = None

    def close(self) -> None:
        """End the link, with a moment for what was sent last."""
        self._open_at = None
        self._close_socket(_LINGER_MS)
        self._context.term()


def _ready(sock: zmq.Socket[bytes]) -> int:
    return int(sock.get(_EVENTS))
