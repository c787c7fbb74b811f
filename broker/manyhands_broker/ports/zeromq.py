"""The broker's door for other machines: a ROUTER socket of ZeroMQ.

Messages for a peer whose queue is full are kept here until it takes them. The windows of the protocol
bound how many these can be.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import zmq
from zmq import zmq_poll

from manyhands_broker.auth import DOMAIN, Gatekeeper, secure
from manyhands_broker.core import ANYBODY, LinkClosed, Received
from manyhands_broker.descriptor_reserve import watched_by
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import DRAIN_MESSAGES, DRAIN_SECONDS, Port, Take
from manyhands_broker.ports.encoding import Codec
from manyhands_broker.ports.zmq_disconnects import Connections
from manyhands_shared.clock import Clock
from manyhands_shared.errors import ConfigError, ProtocolError
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import (
    ClientHello,
    Message,
    Ping,
    Refused,
    WorkerHello,
)
from manyhands_shared.transport import zmq_pieces

log = logging.getLogger("manyhands.broker")

#: Between two attempts to send to a peer whose queue is full.
RETRY_WAIT = 0.005
#: A host agent's hello by its number: its module is loaded where there are agents.
_AGENT_HELLO = 66
_HELLOS = frozenset({ClientHello.NUMBER, WorkerHello.NUMBER, _AGENT_HELLO})

# Plain numbers: arithmetic on pyzmq's enumerations costs as much as sending a small frame.
_IN = int(zmq.POLLIN)
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class RouterPort(Port):
    """Carries messages of those that have connected to a bound ROUTER socket.

    Args:
        router: the socket.
        poller: where descriptors are registered.
        codec: makes frames of messages, and messages of frames.
        clock: the monotonic clock.
        gatekeeper: knows the keys of peers; without one there are none.
        descriptors: how many this process may have.
        arriving: bytes of payloads that may come of a client's messages, for each key, before these end.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        poller: Poller,
        codec: Codec,
        clock: Clock,
        gatekeeper: Gatekeeper | None,
        descriptors: int,
        arriving: int,
    ) -> None:
        self._router = router
        self._poller = poller
        self._codec = codec
        self._counters = codec.counters
        self._clock = clock
        self._gatekeeper = gatekeeper
        self._connections = Connections(router, descriptors, arriving)
        watched_by(lambda: self._connections.look(clock()))
        # A descriptor of ZeroMQ's only tells that something has changed since its socket was last used.
        # So what uses the router says so, and the router is asked before the loop sleeps.
        self._descriptor = int(router.fd)
        self._readable = [(router, _IN)]
        self._used = True
        #: Whether messages wait that the descriptor does not tell of.
        self._waiting = False
        self._paused = False
        self._outbox: dict[bytes, deque[list[Any]]] = {}
        poller.register(self._descriptor, _IN)
        poller.register(self._connections.descriptor, _IN)

    def due(self, now: float) -> float:
        """See `Port`."""
        if self._used and not self._paused:
            self._used = False
            if zmq_poll(self._readable, 0):
                self._waiting = True
                return 0.0
        retry = now + RETRY_WAIT if self._outbox else math.inf
        return min(retry, self._connections.due)

    def receive(self, ready: Mapping[int, int], now: float, take: Take) -> None:
        """See `Port`."""
        connections = self._connections
        if connections.descriptor in ready:
            connections.look(now)
        if (self._waiting or self._descriptor in ready) and not self._paused:
            self._waiting = False
            self._drain(now, take)
        if now >= connections.due:
            self._probe(now, take)
        if self._outbox:
            self._retry(take)

    def send(self, peer: bytes, message: Message) -> bool:
        """See `Port`."""
        sent = self._post(peer, self._codec.encode(message))
        if sent and type(message) is Refused:
            self._connections.forget(peer, self._clock())
        return sent

    def check(self, now: float) -> None:
        """Shut connections that had the time to say hello, unless it may be waiting to be read."""
        if self._paused:
            return
        self._used = True
        if not zmq_poll(self._readable, 0):
            self._counters["connections_shut"] += self._connections.pending.turn(now)

    def pause(self, *, on: bool) -> None:
        """See `Port`."""
        self._paused, self._used = on, True
        if on:
            self._poller.unregister(self._descriptor)
        else:
            self._poller.register(self._descriptor, _IN)

    def forget(self, peer: bytes) -> None:
        """See `Port`."""
        self._outbox.pop(peer, None)
        if self._gatekeeper is not None:
            self._gatekeeper.forget(peer)
        self._connections.forget(peer, self._clock())

    def stalled(self, now: float) -> None:
        """See `Port`."""
        self._connections.pending.stalled(now)

    def close(self) -> None:
        """Watch connections no more. Before the socket is closed."""
        watched_by(None)
        self._connections.close()

    def _drain(self, now: float, take: Take) -> None:
        router, connections, clock = self._router, self._connections, self._clock
        readable, receive, read = self._readable, router.recv, self._read
        who = None if self._gatekeeper is None else self._gatekeeper.who
        enough = now + DRAIN_SECONDS
        for number in range(DRAIN_MESSAGES):
            if number and clock() > enough:
                return
            # Asked for first: the exception after a last message costs more than this for each message.
            if not zmq_poll(readable, 0):
                self._used = False
                return
            self._used = True
            try:
                frame = receive(_NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer = frame.bytes
            sender = ANYBODY if who is None else who(peer, frame)
            if sender is None:
                self._counters["revoked_messages"] += 1
                zmq_pieces.skip(frame, router)
                continue
            message = read(peer, frame)
            connections.heard(peer)
            if message is None:
                continue
            if message.NUMBER in _HELLOS:
                node = message.NUMBER != ClientHello.NUMBER
                connections.met(peer, frame, sender, now, node=node)
            take(Received(peer, message, sender))

    def _read(self, peer: bytes, name: zmq.Frame) -> Message | None:
        """The rest of the message that the router has just named the peer of."""
        router, codec = self._router, self._codec
        if not name.more:
            return codec.decode(peer, [])
        header = router.recv(_NOBLOCK, copy=False)
        if not header.more:
            return codec.decode(peer, [header.buffer])
        try:
            return wire.decode(zmq_pieces.receive(header, router))
        except ProtocolError as error:
            codec.complain(peer, error)
            return None

    def _post(self, peer: bytes, frames: list[Any]) -> bool:
        waiting = self._outbox.get(peer)
        if waiting is not None:
            waiting.append(frames)
            return True
        self._used = True
        frames = zmq_pieces.cut(frames)
        try:
            # Not pyzmq's own in Python, which looks for what a ROUTER does not have.
            send = super(zmq.Socket, self._router).send
            send(peer, _MORE)
            for frame in frames[:-1]:
                send(frame, _MORE, copy=False)
            send(frames[-1], _NOBLOCK, copy=False)
        except zmq.Again:
            self._outbox[peer] = deque([frames])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def _retry(self, take: Take) -> None:
        for peer in list(self._outbox):
            waiting = self._outbox.pop(peer)
            while waiting:
                frames = waiting.popleft()
                if not self._post(peer, frames):
                    take(LinkClosed(peer))
                    break
                if peer in self._outbox:
                    self._outbox[peer].extend(waiting)
                    break

    def _probe(self, now: float, take: Take) -> None:
        """See whether those are gone whose connections have ended; end those that only ever begin."""
        connections = self._connections
        for peer in connections.doubtful(now):
            if not self.send(peer, Ping(0)):
                take(LinkClosed(peer))
        if shut := connections.bound(now):
            self._counters["refused_arriving"] += shut
            log.warning("%d connections were shut: too much came, and no message ended", shut)


@contextlib.contextmanager
def router_socket(gatekeeper: Gatekeeper | None) -> Iterator[zmq.Socket[bytes]]:
    """Make a ROUTER socket that lets in the keys that the gatekeeper knows; without one, all."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        if gatekeeper is None:
            yield router
            return
        authenticator = secure(context, router, gatekeeper.key, gatekeeper.keyring)
        try:
            yield router
        finally:
            authenticator.stop()


def bind(router: zmq.Socket[bytes], address: str, *, any_port: bool = False) -> str:
    """Set the options that the protocol asks for, bind, and return the address with its real port.

    Args:
        router: what to bind.
        address: where.
        any_port: take a free port if that of the address is taken.

    Raises:
        ConfigError: that cannot be done.
    """
    router.router_mandatory = True
    router.linger = 0
    router.maxmsgsize = zmq_pieces.MAX_ZMQ_BYTES
    # With a domain, ZeroMQ refuses versions of its protocol that know no authentication. Their frames
    # have no fixed beginning, so a POST of a web page would be read as messages.
    router.zap_domain = DOMAIN.encode()
    router.set_hwm(1_000)
    router.setsockopt(zmq.HEARTBEAT_IVL, 2_000)
    router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6_000)
    router.setsockopt(zmq.HEARTBEAT_TTL, 6_000)
    router.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
    router.setsockopt(zmq.BACKLOG, 1_024)
    with contextlib.suppress(AttributeError, zmq.ZMQError):
        router.ipv6 = "[" in address
    try:
        try:
            router.bind(address)
        except zmq.ZMQError as error:
            if not any_port or error.errno != zmq.EADDRINUSE:
                raise
            router.bind(f"{address.rpartition(':')[0]}:0")
    except zmq.ZMQError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error}; choose another with --bind"
        ) from None
    return (
        router.last_endpoint.decode()
        if isinstance(router.last_endpoint, bytes)
        else str(router.last_endpoint)
    )
