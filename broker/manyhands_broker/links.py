"""Which peer is at the other end of which connection, so that its end is noticed at once.

A ROUTER socket drops a peer whose connection has ended without a word; one learns of it when the next
message cannot be sent. Its monitor does tell, but of descriptors and not of peers. So descriptors are
noted as peers say hello, and when one is closed its peer is probed: sending fails if it is gone. That it
is probed, and not believed to be gone, makes it safe that descriptors are given out again.
"""

from __future__ import annotations

from collections import deque

import zmq

from manyhands_shared import monitor

#: From the news of an end to the probe: ZeroMQ tells of it a moment before it is so.
SETTLE_SECONDS = 0.02


class Links:
    """The connections of a ROUTER socket that is not bound yet."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        self._router = router
        #: Its descriptor can be read when connections have ended.
        self.monitor: zmq.Socket[bytes] = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.descriptor = int(self.monitor.fd)
        # Only a socket that was found empty tells of news by its descriptor.
        while monitor.read(self.monitor) is not None:
            pass
        self._peers: dict[int, bytes] = {}
        self._doubtful: deque[tuple[float, bytes]] = deque()

    def met(self, peer: bytes, frame: zmq.Frame, now: float) -> None:
        """A peer has said hello; `frame` is one of its message's."""
        descriptor = int(frame.get(zmq.SRCFD))
        before = self._peers.get(descriptor)
        if before is not None and before != peer:
            self._doubtful.append((now + SETTLE_SECONDS, before))
        self._peers[descriptor] = peer

    def look(self, now: float) -> None:
        """Take the news of connections that have ended."""
        while (event := monitor.read(self.monitor)) is not None:
            peer = self._peers.pop(event[1], None)
            if peer is not None:
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
