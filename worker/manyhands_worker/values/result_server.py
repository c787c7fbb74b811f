"""Serves held results to clients of other hosts, so that they need not pass the broker.

It has a thread and a ZeroMQ context of its own. However many clients take however much, the node's
loop and its link to the broker turn on. It answers `Pull` with `Part`, and remembers nothing
between the two (see `manyhands_shared.protocol.parts`). What it sends lies in the segment that the
child wrote, and is not copied on the way to ZeroMQ.

Only over CURVE, and only where the cluster has a key. Clients learn the server's public key, new with
every node, from the ticket; the server learns theirs, new with every session, from their jobs. It lets
in the keys whose results are here now, and each gets its own results alone, by keys that cannot
be guessed. So with the cancellation of its jobs, as by revocation, a client is shut out.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import zmq

from manyhands_shared import shm
from manyhands_shared.errors import ProtocolError
from manyhands_shared.processes.thread_start import start
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.held_result import Server
from manyhands_shared.protocol.messages import Part, Pull
from manyhands_shared.protocol.parts import DOMAIN, PART_BYTES, WINDOW
from manyhands_shared.security.role_key import to_z85
from manyhands_shared.transport import zmq_monitor
from manyhands_shared.transport.unfinished_input import UnfinishedInput

log = logging.getLogger("manyhands.worker")

#: Bytes that may have come of requests that have not ended, over all connections of a client.
_MAX_ARRIVING_BYTES = 64 << 10
#: How often that is checked, while there are connections.
_CHECK_MS = 100
_ACCEPTED = int(zmq.EVENT_ACCEPTED)

#: A request is 40 bytes.
_MAX_REQUEST_BYTES = 1024
#: Time for a stranger to say who he is, for a silent one to answer.
_HANDSHAKE_MS = 3_000
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 2_000, 6_000
#: ZeroMQ learns of what was taken in lots of half this, and may believe so much more to be on the way.
_HIGH_WATER_MARK = 4 * WINDOW
_TURN_REQUESTS = 64
_COMPLAIN_SECONDS = 60.0
_LEAVE_SECONDS = 2.0
_ANYWHERE = ("0.0.0.0", "::")


@dataclass(slots=True)
class _Item:
    """A segment that `guest` may have. `done` is called when this server has no view of it any more."""

    fd: int
    size: int
    guest: str
    done: Callable[[], None]
    view: memoryview | None = None


class ResultServer:
    """Serves results by their keys, once `start` has found where.

    Args:
        address: where to listen; empty is where this host is reached by the broker. Every address
            of the host (``0.0.0.0``) goes by that one's name.
        port: 0 is a free one.
    """

    def __init__(self, address: str, port: int) -> None:
        #: Where clients find it; None as long as they do not.
        self.place: Server | None = None
        self._address = address
        self._port = port
        self._items: dict[bytes, _Item] = {}
        self._guests: dict[str, int] = {}
        self._lock = threading.Lock()
        self._wake, self._wake_in = os.pipe()
        self._thread: threading.Thread | None = None
        self._complained_at = -_COMPLAIN_SECONDS
        self._unfinished_input = UnfinishedInput()
        self._next_check = 0.0

    # For the node's loop ------------------------------------------------------------------------

    def start(self, broker: str) -> None:
        """Begin to listen, where the host `broker` is reached from. Once; returns at once."""
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, args=(broker,), name="manyhands-results", daemon=True
            )
            if start(thread):
                self._thread = thread
            else:
                log.warning("large results go through the broker: the system gives no thread")

    def offer(self, key: bytes, fd: int, size: int, guest: str, done: Callable[[], None]) -> None:
        """Serve the segment behind `fd` to the client with the public key `guest` (hexadecimal).

        The descriptor stays open until `done` is called, on whatever thread.
        """
        known = to_z85(guest).decode()
        with self._lock:
            self._items[key] = _Item(fd, size, known, done)
            self._guests[known] = self._guests.get(known, 0) + 1

    def withdraw(self, key: bytes) -> None:
        """Serve it no more. `done` follows when what is on its way has left, or will not."""
        with self._lock:
            item = self._items.pop(key, None)
            if item is None:
                return
            self._guests[item.guest] -= 1
            if not self._guests[item.guest]:
                del self._guests[item.guest]
        if item.view is None:
            item.done()

    def close(self) -> None:
        """Serve nothing any more, and close the socket."""
        os.write(self._wake_in, b"\0")
        if self._thread is not None:
            self._thread.join(_LEAVE_SECONDS)
        if self._thread is None or not self._thread.is_alive():
            # Else it is looking a name up, and ends with the process.
            os.close(self._wake)
            os.close(self._wake_in)
        for key in list(self._items):
            self.withdraw(key)

    # For the authenticator ----------------------------------------------------------------------

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether this public key may connect; asked by the authenticator, in its thread."""
        return domain == DOMAIN and key.decode("ascii", "replace") in self._guests

    # On its own thread --------------------------------------------------------------------------

    def _run(self, broker: str) -> None:
        try:
            address = self._address or _own_address(broker)
            named = _own_address(broker) if address in _ANYWHERE else address
            if not self._address and ip_address(named).is_loopback:
                return  # who could come by that address has the memory lent
            with zmq.Context() as context:
                self._serve(context, address, named)
        except (OSError, ValueError, zmq.ZMQError) as error:
            log.warning("large results go through the broker: cannot serve them here: %s", error)
        finally:
            self.place = None

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]], address: str, named: str) -> None:
        # Not above: it takes asyncio along, and a node for one machine needs neither.
        from manyhands_shared.security.authenticator import Authenticator  # noqa: PLC0415

        authenticator = Authenticator(context)
        authenticator.start()
        router = context.socket(zmq.ROUTER)
        events = router.get_monitor_socket(_ACCEPTED | int(zmq.EVENT_DISCONNECTED))
        try:
            authenticator.configure_curve_callback(DOMAIN, self)
            self.place = self._open(router, address, named)
            poller = zmq.Poller()
            for one in (router, events, self._wake):
                poller.register(one, zmq.POLLIN)
            while self._wake not in dict(
                poller.poll(_CHECK_MS if self._unfinished_input else None)
            ):
                self._bound(events)
                self._turn(router)
        finally:
            router.disable_monitor()
            events.close(0)
            router.close(0)
            authenticator.stop()

    def _open(self, router: zmq.Socket[bytes], address: str, named: str) -> Server:
        public, secret = zmq.curve_keypair()
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = public, secret
        router.zap_domain = DOMAIN.encode()
        # Without, an empty domain would mean: let every client in, and do not ask.
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        # Who asks for more than he may have on the way does not get it.
        router.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        router.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        router.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        router.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        router.setsockopt(zmq.IPV6, 1)
        host = f"[{address}]" if ":" in address else address
        try:
            router.bind(f"tcp://{host}:{self._port or '*'}")
        except zmq.ZMQError as error:
            where = f"{host}, port {self._port}" if self._port else host
            raise OSError(
                f"cannot listen on {where} ({error}); see --data-address and --data-port"
            ) from None
        endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        port = int(endpoint.rpartition(":")[2])
        log.info("serves large results at %s, port %d", named, port)
        return Server(named, port, _raw(public))

    def _bound(self, events: zmq.Socket[bytes]) -> None:
        """Shut connections over which more than a request has come, and none that ends."""
        now = time.monotonic()
        while (event := zmq_monitor.read(events)) is not None:
            kind, descriptor = event
            if kind == _ACCEPTED:
                self._unfinished_input.came(descriptor, now)
            else:
                self._unfinished_input.gone(descriptor)
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_MS / 1000
        for descriptor, size in self._unfinished_input.measure(now).items():
            if size > _MAX_ARRIVING_BYTES:
                self._unfinished_input.shut(descriptor)
                self._complain(ProtocolError(f"a request of more than {size} bytes"))

    def _turn(self, router: zmq.Socket[bytes]) -> None:
        for _ in range(_TURN_REQUESTS):
            try:
                peer, *frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if frames:
                self._unfinished_input.heard(int(frames[0].get(zmq.SRCFD)))
            try:
                answer = self._answer(frames)
            except (ProtocolError, IndexError) as error:
                self._complain(error)
                continue
            try:
                router.send_multipart([peer.bytes, *wire.encode(answer)], zmq.NOBLOCK, copy=False)
            except zmq.ZMQError:
                continue  # it has left, or asks without taking

    def _answer(self, frames: list[zmq.Frame]) -> Part:
        """Raises ProtocolError, IndexError: that is no request."""
        user = str(frames[0].get("User-Id"))
        request = wire.decode(frames)
        if not isinstance(request, Pull):
            raise ProtocolError(f"a {type(request).__name__}, which is not for here")
        key, start, size = request.key, request.at, request.size
        with self._lock:
            item = self._items.get(key)
            if item is None or item.guest != user:
                return Part(key, start, [])
            if not 0 < size <= PART_BYTES or start + size > item.size:
                raise ProtocolError(f"{size} bytes from {start} on, of {item.size}")
            if item.view is None:
                try:
                    # There while anything that was sent looks at it, whatever becomes of the item.
                    item.view = shm.shared_view(item.fd, item.size, item.done)
                except (OSError, ValueError):
                    return Part(key, start, [])
            return Part(key, start, [(item.view[start : start + size],)])

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._complained_at + _COMPLAIN_SECONDS:
            self._complained_at = now
            log.warning("a client asks for results in a way that makes no sense: %s", error)


def _own_address(host: str) -> str:
    """The address by which this machine reaches a host.

    Raises:
        OSError: it does not, or the name of the host is unknown.
    """
    family, kind, _, _, where = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)  # which sends nothing
        own: Any = probe.getsockname()
    return str(own[0])


def _raw(public: bytes) -> bytes:
    from zmq.utils import z85  # noqa: PLC0415 - as in `role_key`

    return bytes(z85.decode(public))
