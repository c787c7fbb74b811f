"""One connection to a node: results are fetched over it in parts.

`WINDOW` parts are asked for at once, and the next whenever one has come. Each part is received into the
place in the result's memory where it belongs. What goes wrong with the connection goes wrong with all
that is fetched over it, and with nothing else.
"""

from __future__ import annotations

import contextlib
import mmap
from collections import deque

import zmq

from manyhands._session.effects import Fetch
from manyhands_shared import shm
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.held_result import Server, Ticket
from manyhands_shared.protocol.messages import Part, Pull
from manyhands_shared.protocol.parts import PART_BYTES, WINDOW
from manyhands_shared.security.cluster_key import KeyPair
from manyhands_shared.security.role_key import to_z85
from manyhands_shared.transport import zmq_monitor

#: A node that has not let us in by then is not to be reached.
CONNECT_SECONDS = 1.0
#: A node that is asked and sends nothing for this time does not answer.
STALL_SECONDS = 10.0
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 1_000, 5_000
_HEADER_BYTES = 1024
# Plain numbers: arithmetic on pyzmq's enumerations costs as much as a small message.
_STATE, _IN = int(zmq.EVENTS), int(zmq.POLLIN)
#: Stands for a part that is still to be received.
_COMES = b""
_HUGE_BYTES = 2 << 20
_UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
_DOWN = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class _Transfer:
    """A result on its way: its memory, and which part of it is asked for next."""

    __slots__ = ("asked", "fetch", "key", "left", "lengths", "memory")

    def __init__(self, fetch: Fetch, ticket: Ticket) -> None:
        self.fetch = fetch
        self.key = ticket.key
        self.lengths = ticket.lengths
        self.memory = _fresh(shm.span(ticket.lengths))
        self.asked = 0
        self.left = len(self.memory)

    def payload(self) -> Payload:
        """The result, once nothing of it is left to come."""
        return shm.cut(self.memory, self.lengths)


class FetchConnection:
    """A connection to the server of a node, from which it is asked for results.

    Args:
        context: of the calling thread.
        server: where the node serves.
        pair: the session's key pair for this.
        now: the time, in seconds.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], server: Server, pair: KeyPair, now: float
    ) -> None:
        host = f"[{server.address}]" if ":" in server.address else server.address
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, PART_BYTES + _HEADER_BYTES)
        self.socket.setsockopt(zmq.RCVHWM, 2 * WINDOW)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.curve_publickey, self.socket.curve_secretkey = pair.public, pair.secret
        self.socket.curve_serverkey = to_z85(server.key.hex())
        self.monitor = self.socket.get_monitor_socket(int(_UP | _DOWN))
        self.monitor.linger = 0
        #: Why nothing more comes over it; empty while all is well.
        self.broken = ""
        #: Whether the node was there, if only to say no.
        self.reached = False
        #: When it was last of use.
        self.used_at = now
        self._up = False
        self._due = now + CONNECT_SECONDS
        self._waiting: deque[tuple[Fetch, Ticket]] = deque()
        self._transfers: dict[bytes, _Transfer] = {}
        self._pulls: dict[tuple[bytes, int], int] = {}
        self._over: list[tuple[Fetch, Payload | None]] = []
        self.socket.connect(f"tcp://{host}:{server.port}")

    @property
    def busy(self) -> bool:
        """Whether something is fetched over it."""
        return bool(self._waiting or self._transfers)

    @property
    def deadline(self) -> float | None:
        """When to look at it, if nothing happens before."""
        return self._due if self.busy or not self._up else None

    def fetch(self, wanted: Fetch, ticket: Ticket, now: float) -> None:
        """Fetch a result, behind what is fetched already."""
        if self._up and not self.busy:
            self._due = now + STALL_SECONDS
        self._waiting.append((wanted, ticket))

    def turn(self, now: float) -> list[tuple[Fetch, Payload | None]]:
        """Take what has come: fetches that are over, with None for what the node does not give.

        If nothing more will come, `broken` says why and everything is over.
        """
        self._read_monitor(now)
        while not self.broken and int(self.socket.get(_STATE)) & _IN:
            self._receive()
            self.used_at = now
            self._due = now + STALL_SECONDS
        self._ask()
        if not self.broken and self.deadline is not None and now >= self._due:
            self.broken = "it does not answer"
        if self.broken:
            self._over += [(wanted, None) for wanted in self.give_up()]
        over, self._over = self._over, []
        return over

    def give_up(self) -> list[Fetch]:
        """Fetch nothing of what has not come yet; returns that."""
        left = [transfer.fetch for transfer in self._transfers.values()]
        left += [wanted for wanted, _ in self._waiting]
        self._transfers.clear()
        self._waiting.clear()
        return left

    def close(self) -> None:
        """Let go of it."""
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger=0)

    def _read_monitor(self, now: float) -> None:
        while (event := zmq_monitor.read(self.monitor)) is not None:
            if event[0] & _UP:
                self.reached = True
                self._up = True
                self._due = now + STALL_SECONDS
            elif event[0] & zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.reached = True
                self.broken = "it does not let us in"
            else:
                self.broken = self.broken or "the connection broke"

    def _ask(self) -> None:
        """Ask for parts, as long as more may be on the way."""
        while self._up and not self.broken and len(self._pulls) < WINDOW:
            transfer = next((t for t in self._transfers.values() if t.asked < len(t.memory)), None)
            if transfer is None:
                if not self._waiting:
                    return
                self._begin(*self._waiting.popleft())
                continue
            start = transfer.asked
            size = min(PART_BYTES, len(transfer.memory) - start)
            try:
                self.socket.send(wire.encode(Pull(transfer.key, start, size))[0], zmq.NOBLOCK)
            except zmq.Again:
                self.broken = "the connection broke"
                return
            self._pulls[transfer.key, start] = size
            transfer.asked += size

    def _begin(self, wanted: Fetch, ticket: Ticket) -> None:
        try:
            if ticket.key in self._transfers:
                raise ValueError("the same one twice")
            self._transfers[ticket.key] = _Transfer(wanted, ticket)
        except (OSError, ValueError, OverflowError):
            # No memory for it. Through the broker it may find some.
            self._over.append((wanted, None))

    def _receive(self) -> None:
        header = self.socket.recv(zmq.NOBLOCK)
        frames = [header, _COMES] if self.socket.get(zmq.RCVMORE) else [header]
        try:
            message = wire.decode(frames)
        except ProtocolError:
            message = None
        size = None
        if isinstance(message, Part) and len(message.bodies) < 2:
            size = self._pulls.pop((message.key, message.at), None)
        if size is None:
            self.broken = "it sends what was not asked for"
            return
        assert isinstance(message, Part)
        transfer = self._transfers.get(message.key)
        if transfer is None:  # which has failed; the rest of it is still on its way
            while self.socket.get(zmq.RCVMORE):
                self.socket.recv(copy=False)
        elif not message.bodies:
            del self._transfers[transfer.key]
            self._over.append((transfer.fetch, None))
        elif self._take(message.bodies[0], transfer.memory[message.at : message.at + size]):
            transfer.left -= size
            if not transfer.left:
                del self._transfers[transfer.key]
                self._over.append((transfer.fetch, transfer.payload()))
        else:
            self.broken = "it sends parts of another size"

    def _take(self, body: Payload, place: memoryview) -> bool:
        """Put a part where it belongs; false if it does not fit there."""
        if isinstance(body, bytes):
            fits = len(body) == len(place)
            if fits:
                place[:] = body
            return fits
        return self.socket.recv_into(place) == len(place) and not self.socket.get(zmq.RCVMORE)


def _fresh(size: int) -> memoryview:
    """Memory of this process's own.

    Raises:
        OSError, ValueError: there is none.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        # Fresh pages of 4 KiB cost more than what is received into them.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
