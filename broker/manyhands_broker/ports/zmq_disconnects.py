"""Which peers are at the other ends of connections, so that the end of one is noticed at once.

A ROUTER socket drops a peer whose connection has ended without a word; one learns of it when the next
message cannot be sent. Its monitor does tell, but of descriptors and not of peers. So descriptors are
noted as peers say hello, and when one is closed its peer is probed: sending fails if it is gone. That it
is probed, and not believed to be gone, makes it safe that descriptors are given out again.

Connections that have not said hello are pending (see `pending_connections`).

A message counts against nothing before its last frame has come. So what has come of those that have not
ended is bounded for each key, and of too much the largest is shut (see `unfinished_input`).
"""

from __future__ import annotations

import math
from collections import Counter, deque

import zmq

from manyhands_broker.core import Identity
from manyhands_broker.ports.pending_connections import PendingConnections
from manyhands_broker.strangers import Strangers
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES, MAX_HEADER_BYTES
from manyhands_shared.transport import zmq_monitor
from manyhands_shared.transport.unfinished_input import UnfinishedInput

#: From the news of an end to the probe: ZeroMQ tells of it a moment before it is so.
SETTLE_SECONDS = 0.02
#: Between two checks of what has come of messages that have not ended; and more for each connection.
CHECK_SECONDS, CHECK_EACH = 0.05, 0.001
#: What may have come of a message beside its payloads, and of the hello of a pending connection.
_SMALL_BYTES = MAX_HEADER_BYTES + (8 << 20)
#: Of a node's, whose results may be as long as frames.
_NODE_BYTES = MAX_FRAME_BYTES + _SMALL_BYTES
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
#: A peer's handshake is of another key or mechanism; the end of its connection is told next.
_REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_EVENTS = _ACCEPTED | _REFUSED | int(zmq.EVENT_DISCONNECTED)


class Connections:
    """The connections of a ROUTER socket that is not bound yet.

    Args:
        router: the socket.
        descriptors: how many this process may have.
        most: bytes of payloads that may come of a client's messages, for each key, before these end.
    """

    def __init__(self, router: zmq.Socket[bytes], descriptors: int, most: int) -> None:
        self._router = router
        self._limit = descriptors
        self._most = most + _SMALL_BYTES
        self._unfinished_input = UnfinishedInput()
        self._next_check = 0.0
        #: By which key each peer's connection came, and whether it is a node's.
        self._identities: dict[int, tuple[Identity, bool]] = {}
        self.pending = PendingConnections(descriptors)
        #: Its descriptor can be read when connections have been made, or have ended.
        self.monitor: zmq.Socket[bytes] = router.get_monitor_socket(_EVENTS)
        self.descriptor = int(self.monitor.fd)
        # Only a socket that was found empty tells of news by its descriptor.
        while zmq_monitor.read(self.monitor) is not None:
            pass
        self._peers: dict[int, bytes] = {}
        self._descriptors: dict[bytes, int] = {}
        self._doubtful: deque[tuple[float, bytes]] = deque()
        self._strangers = Strangers()
        #: Why the handshake failed of the connection that ends next; 0 if it did not.
        self._refusal = 0

    def met(self, peer: bytes, frame: zmq.Frame, who: Identity, now: float, *, node: bool) -> None:
        """A peer has said hello by a key; `frame` is one of its message's."""
        self.look(now)  # the news of its connection comes before
        descriptor = int(frame.get(zmq.SRCFD))
        before = self._peers.get(descriptor)
        if before is not None and before != peer:
            self._doubtful.append((now + SETTLE_SECONDS, before))
        self._peers[descriptor] = peer
        self._descriptors[peer] = descriptor
        self._identities[descriptor] = who, node
        self.pending.forget(descriptor)

    def heard(self, peer: bytes) -> None:
        """A whole message of a peer has come."""
        descriptor = self._descriptors.get(peer)
        if descriptor is not None:
            self._unfinished_input.heard(descriptor)

    def bound(self, now: float) -> int:
        """Shut connections over which too much has come without an end; returns how many."""
        if now < self._next_check or not self._unfinished_input:
            return 0
        self._next_check = now + CHECK_SECONDS + CHECK_EACH * len(self._unfinished_input)
        shut = 0
        keys: Counter[str | None] = Counter()
        found = self._unfinished_input.measure(now)
        for descriptor, size in sorted(found.items(), key=lambda item: item[1]):
            most, key = self._bound_of(descriptor)
            keys[key] += size
            if keys[key] > most:
                keys[key] -= size
                self._unfinished_input.shut(descriptor)
                shut += 1
        return shut

    def _bound_of(self, descriptor: int) -> tuple[int, str | None]:
        """How much may come over a connection together with others of its key, and that key."""
        known = self._identities.get(descriptor)
        if known is None:
            return _SMALL_BYTES, None
        who, node = known
        return max(self._most, _NODE_BYTES) if node else self._most, who.key

    def forget(self, peer: bytes, now: float) -> None:
        """The scheduler has nothing to do with a peer any more, until it says hello anew."""
        descriptor = self._descriptors.pop(peer, None)
        if descriptor is not None and self._peers.get(descriptor) == peer:
            self.pending.came(descriptor, now)

    def look(self, now: float) -> None:
        """Take the news of connections that have been made or have ended."""
        while (event := zmq_monitor.read(self.monitor)) is not None:
            kind, value = event
            if kind == _REFUSED:
                self._refusal = value
                continue
            descriptor = value
            if kind == _ACCEPTED:
                self.pending.came(descriptor, now)
                if descriptor >= self._limit:
                    self.pending.shut(descriptor)  # it has taken one of the reserve
                self._unfinished_input.came(descriptor, now)
                continue
            if self._refusal:
                host = self.pending.host(descriptor)
                self._strangers.failed_handshake(host, self._refusal, now)
                self._refusal = 0
            self.pending.forget(descriptor)
            self._unfinished_input.gone(descriptor)
            self._identities.pop(descriptor, None)
            peer = self._peers.pop(descriptor, None)
            if peer is not None:
                self._descriptors.pop(peer, None)
                self._doubtful.append((now + SETTLE_SECONDS, peer))

    @property
    def due(self) -> float:
        """When `doubtful` or `bound` has something to do."""
        due = self._next_check if self._unfinished_input else math.inf
        return min(due, self._doubtful[0][0]) if self._doubtful else due

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
