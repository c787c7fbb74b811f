"""Which peer is at the other end of which connection, so that its end is noticed at once.

A ROUTER socket drops a peer whose connection has ended without a word; one learns of it when the next
message cannot be sent. Its monitor does tell, but of descriptors and not of peers. So descriptors are
noted as peers say hello, and when one is closed its peer is probed: sending fails if it is gone. That it
is probed, and not believed to be gone, makes it safe that descriptors are given out again.

Connections that have not said hello are strangers (see `strangers`).
"""

from __future__ import annotations

import contextlib
from collections import deque

import zmq

from manyhands_broker.security import DOMAIN
from manyhands_broker.strangers import Strangers
from manyhands_shared import monitor, pieces

#: From the news of an end to the probe: ZeroMQ tells of it a moment before it is so.
SETTLE_SECONDS = 0.02
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_EVENTS = _ACCEPTED | int(zmq.EVENT_DISCONNECTED)


class Links:
    """The connections of a ROUTER socket that is not bound yet.

    Args:
        router: the socket.
        descriptors: how many this process may have.
    """

    def __init__(self, router: zmq.Socket[bytes], descriptors: int) -> None:
        self._router = router
        self.strangers = Strangers(descriptors)
        #: Its descriptor can be read when connections have been made, or have ended.
        self.monitor: zmq.Socket[bytes] = router.get_monitor_socket(_EVENTS)
        self.descriptor = int(self.monitor.fd)
        # Only a socket that was found empty tells of news by its descriptor.
        while monitor.read(self.monitor) is not None:
            pass
        self._peers: dict[int, bytes] = {}
        self._descriptors: dict[bytes, int] = {}
        self._doubtful: deque[tuple[float, bytes]] = deque()

    def met(self, peer: bytes, frame: zmq.Frame, now: float) -> None:
        """A peer has said hello; `frame` is one of its message's."""
        self.look(now)  # the news of its connection comes before
        descriptor = int(frame.get(zmq.SRCFD))
        before = self._peers.get(descriptor)
        if before is not None and before != peer:
            self._doubtful.append((now + SETTLE_SECONDS, before))
        self._peers[descriptor] = peer
        self._descriptors[peer] = descriptor
        self.strangers.forget(descriptor)

    def forget(self, peer: bytes, now: float) -> None:
        """The scheduler has nothing to do with a peer any more, until it says hello anew."""
        descriptor = self._descriptors.pop(peer, None)
        if descriptor is not None and self._peers.get(descriptor) == peer:
            self.strangers.came(descriptor, now)

    def look(self, now: float) -> None:
        """Take the news of connections that have been made or have ended."""
        while (event := monitor.read(self.monitor)) is not None:
            kind, descriptor = event
            if kind == _ACCEPTED:
                self.strangers.came(descriptor, now)
                continue
            self.strangers.forget(descriptor)
            peer = self._peers.pop(descriptor, None)
            if peer is not None:
                self._descriptors.pop(peer, None)
                self._doubtful.append((now + SETTLE_SECONDS, peer))

    @property
    def due(self) -> float | None:
        """When `doubtful` has somebody to name; `None` for never."""
        return self._doubtful[0][0] if self._doubtful else None

    def doubtful(self, now: float) -> list[bytes]:
        """Peers to be probed now, each once."""
        found = []
        while self._doubtful and self._doubtful[0][0] <= now:
            found.append(self._doubtful.popleft()[1])
        return found

    def close(self) -> None:
        """Watch no more. Before the socket is closed."""
        self._router.disable_monitor()
        self.monitor.close(0)


def bind(router: zmq.Socket[bytes], address: str) -> str:
    """Set the options that the protocol asks for, bind, and return the address with its real port."""
    router.router_mandatory = True
    router.linger = 0
    router.maxmsgsize = pieces.MAX_ZMQ_BYTES
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
    router.bind(address)
    return (
        router.last_endpoint.decode()
        if isinstance(router.last_endpoint, bytes)
        else str(router.last_endpoint)
    )
