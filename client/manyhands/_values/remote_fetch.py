"""Fetches results from nodes of other hosts, on a thread of its own: a silent node holds up no other.

What a node cannot or will not give is `over` without a payload, and comes through the broker. A node
that cannot be reached is left alone for a while.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from math import ceil

import zmq

from manyhands._session.effects import Fetch
from manyhands._values.fetch_connection import FetchConnection
from manyhands_shared.clock import monotonic
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.descriptors import running_short
from manyhands_shared.processes.thread_start import must_start
from manyhands_shared.protocol.held_result import Server, Ticket
from manyhands_shared.security.cluster_key import KeyPair
from manyhands_shared.security.role_key import to_hex

log = logging.getLogger("manyhands.client")

#: A node that could not be reached is not tried again for this time.
FORGET_SECONDS = 30.0
#: Connections at once: each takes three descriptors.
MAX_CONNECTIONS = 64
#: A connection over which nothing was fetched for this time is closed.
IDLE_SECONDS = 60.0


class RemoteFetcher:
    """All fetches of a session from other hosts.

    Args:
        over: called, on the thread here, with each fetch that is over, and its result or None.
    """

    def __init__(self, over: Callable[[Fetch, Payload | None], None]) -> None:
        public, secret = zmq.curve_keypair()
        self._pair = KeyPair(public, secret)
        #: The public key with which it comes, in hexadecimal.
        self.public = to_hex(public)
        self._over = over
        self._wanted: deque[tuple[Fetch, Ticket, Server]] = deque()
        self._connections: dict[Server, FetchConnection] = {}
        self._unreachable: dict[Server, float] = {}
        self._closing = self._ended = False
        self._thread: threading.Thread | None = None
        self._wake = self._wake_in = -1

    # For the session's thread -------------------------------------------------------------------

    def fetch(self, wanted: Fetch, ticket: Ticket, server: Server) -> None:
        """Begin to fetch a result; `over` follows.

        Raises:
            OSError: the system gives no descriptor or thread for it.
        """
        if self._thread is None:
            self._begin()
        self._wanted.append((wanted, ticket, server))
        self._rouse()
        if self._ended:  # looked at after the append, as it is set before the rest is turned away
            self._reject()

    def _begin(self) -> None:
        """Start the thread.

        Raises:
            OSError: the system gives no descriptor or thread.
        """
        if running_short():
            raise OSError(errno.EMFILE, "too few descriptors are left")
        self._wake, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        thread = threading.Thread(target=self._run, name="manyhands-fetch", daemon=True)
        try:
            must_start(thread)
        except OSError:
            os.close(self._wake)
            os.close(self._wake_in)
            raise
        self._thread = thread

    def close(self) -> None:
        """Fetch no more, and wait for the end of the thread. What was fetched stays."""
        if self._thread is not None:
            self._closing = True
            self._rouse()
            self._thread.join()
            self._thread = None
            os.close(self._wake)
            os.close(self._wake_in)

    def _rouse(self) -> None:
        try:
            os.write(self._wake_in, b"\0")
        except BlockingIOError:
            return  # the pipe is full, so it is awake

    def _reject(self) -> None:
        """Once ended: turn away what is queued."""
        with contextlib.suppress(IndexError):
            while True:
                self._over(self._wanted.popleft()[0], None)

    # On its own thread --------------------------------------------------------------------------

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        try:
            while not self._closing:
                ready = dict(poller.poll(self._milliseconds_to_wait(monotonic())))
                if self._wake in ready:
                    os.read(self._wake, 4096)
                self._turn(context, poller, monotonic())
        except Exception:
            log.exception("fetching from nodes failed inside; please report this")
        finally:
            for server, connection in list(self._connections.items()):
                for wanted in connection.give_up():
                    self._over(wanted, None)
                self._drop(server, poller)
            context.term()
            self._ended = True
            self._reject()

    def _milliseconds_to_wait(self, now: float) -> int | None:
        """Milliseconds to wait; None is for ever."""
        times = [
            connection.used_at + IDLE_SECONDS if (due := connection.deadline) is None else due
            for connection in self._connections.values()
        ]
        return max(0, ceil((min(times) - now) * 1e3)) if times else None

    def _turn(
        self, context: zmq.Context[zmq.Socket[bytes]], poller: zmq.Poller, now: float
    ) -> None:
        while self._wanted:
            wanted, ticket, server = self._wanted.popleft()
            connection = self._connections.get(server)
            if connection is None:
                connection = self._connect(context, poller, server, now)
            if connection is None:
                self._over(wanted, None)
            else:
                connection.fetch(wanted, ticket, now)
        for server, connection in list(self._connections.items()):
            for wanted, payload in connection.turn(now):
                self._over(wanted, payload)
            if connection.broken:
                if not connection.reached:
                    self._unreachable[server] = now + FORGET_SECONDS
                log.info(
                    "results of the node at %s, port %d, come through the broker for now: %s",
                    server.address,
                    server.port,
                    connection.broken,
                )
            if connection.broken or (
                not connection.busy and now >= connection.used_at + IDLE_SECONDS
            ):
                self._drop(server, poller)

    def _connect(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
        server: Server,
        now: float,
    ) -> FetchConnection | None:
        """A new connection; None for one that it is no use to try, or that there are too many beside."""
        # ZeroMQ ends a process that has no descriptor left for it.
        if now < self._unreachable.get(server, now) or running_short():
            return None
        past = [gone for gone, until in self._unreachable.items() if until <= now]
        for gone in past:
            del self._unreachable[gone]
        if len(self._connections) >= MAX_CONNECTIONS:
            idle = [
                server for server, connection in self._connections.items() if not connection.busy
            ]
            if not idle:
                return None
            self._drop(min(idle, key=lambda server: self._connections[server].used_at), poller)
        try:
            connection = FetchConnection(context, server, self._pair, now)
        except zmq.ZMQError:
            return None
        self._connections[server] = connection
        poller.register(connection.socket, zmq.POLLIN)
        poller.register(connection.monitor, zmq.POLLIN)
        return connection

    def _drop(self, server: Server, poller: zmq.Poller) -> None:
        connection = self._connections.pop(server)
        poller.unregister(connection.socket)
        poller.unregister(connection.monitor)
        connection.close()
