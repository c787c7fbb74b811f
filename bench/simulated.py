"""Nodes that are links and nothing else: many of them in one process, speaking the real protocol.

Each joins, renews its lease, sends heartbeats, and answers every task as if it had taken no time. Its
window is a real node's, and so are the parts in which results come: what a slot is given at a time.
"""

from __future__ import annotations

import os
import select
import socket
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import zmq

from manyhands_shared.config import WorkerConfig
from manyhands_shared.protocol import heartbeat, wire
from manyhands_shared.protocol import messages as m
from manyhands_shared.transport import zmq_pieces
from manyhands_worker.core.scheduling.slots import BATCH_SECONDS, BATCH_TASKS

_WINDOW = WorkerConfig().window
_RESULT = b"\x80\x05K\x01."
_POLL_SECONDS = 0.02


def serve(
    address: str,
    prefix: str,
    count: int,
    task_seconds: float,
    ready: Connection,
    open_: Event,
    stop: Event,
    kind: type[Node] | None = None,
) -> None:
    """Be `count` nodes that take tasks while `open_` is set, until `stop` is.

    Args:
        address: The broker's.
        prefix: What the nodes' names begin with.
        count: How many nodes.
        task_seconds: What every task says to have taken.
        ready: Told once that all have joined.
        open_: Whether the nodes take tasks.
        stop: When to return.
        kind: What the nodes are; `Node` unless named.
    """
    context, udp = zmq.Context(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    context.set(zmq.MAX_SOCKETS, 8_192)
    poll, nodes = select.epoll(), {}
    for number in range(count):
        node = (kind or Node)(context, udp, address, f"{prefix}-{number}", task_seconds)
        nodes[node.fd] = node
        poll.register(node.fd, select.EPOLLIN)
        # ZeroMQ's descriptor tells only of what has happened since its socket was last used.
        node.turn()
    told, is_open, due = False, False, time.monotonic()
    while not stop.is_set():
        for fd, _ in poll.poll(_POLL_SECONDS):
            nodes[fd].turn()
        if not told and all(node.joined for node in nodes.values()):
            told = True
            ready.send("joined")
        if is_open != open_.is_set():
            is_open = not is_open
            for node in nodes.values():
                node.open(is_open)
        now = time.monotonic()
        if now >= due:
            due = now + 1.0
            for node in nodes.values():
                node.live(now)
    for node in nodes.values():
        node.socket.close(0)
    context.term()


class Node:
    """One simulated node with a slot that takes no time."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        udp: socket.socket,
        address: str,
        name: str,
        task_seconds: float,
    ) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        self.socket.linger = 0
        self.socket.connect(address)
        self.fd = int(self.socket.fd)
        self.joined = False
        self._udp = udp
        self._boot_id = os.urandom(16)
        self._welcome: m.WorkerWelcome | None = None
        self._seq = self._renewals = self._beats = 0
        self._renew_at = 0.0
        self._window = 0
        self._seconds = task_seconds
        self._part = max(1, min(BATCH_TASKS, int(BATCH_SECONDS / task_seconds)))
        self._send(m.WorkerHello(1, name, self._boot_id, 1, 0, [], {"host": "simulated"}))

    def _send(self, message: m.Message) -> None:
        self.socket.send_multipart(zmq_pieces.cut(wire.encode(message)))

    def turn(self) -> None:
        """Take and answer what has come."""
        while int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN:
            match wire.decode(zmq_pieces.join(self.socket.recv_multipart())):
                case m.WorkerWelcome() as welcome:
                    self._welcome, self.joined = welcome, True
                case m.Assign(groups):
                    for group in groups:
                        self._answer(group)
                case m.Ping(counter):
                    self._send(m.Pong(counter))
                case m.Recall():
                    self._send(m.Returned([]))

    def _answer(self, group: m.AssignGroup) -> None:
        for first in range(0, len(group.indices), self._part):
            indices = group.indices[first : first + self._part]
            count = len(indices)
            self._seq += 1
            done = m.ResultGroup(
                group.job,
                group.attempt,
                indices,
                bytes(count),
                [_RESULT] * count,
                count * self._seconds,
            )
            self._send(m.Results(self._seq, [done]))

    def open(self, is_open: bool) -> None:
        """Take tasks from now on, or none any more."""
        self._window = _WINDOW if is_open else 0
        self._renew()

    def _renew(self) -> None:
        self._renewals += 1
        self._send(m.Renew(self._renewals, 1, self._window, []))
        self.turn()

    def live(self, now: float) -> None:
        """Send a heartbeat; renew the lease if it is time."""
        welcome = self._welcome
        if welcome is None:
            return
        if now >= self._renew_at:
            self._renew_at = now + welcome.renew_interval
            self._renew()
        if welcome.beat_port:
            self._beats += 1
            sign = heartbeat.Beat(
                welcome.beat_row, self._boot_id, self._beats, self._beats, 0, 0.0, 0, 0, 0.0
            )
            datagram = heartbeat.encode(sign, welcome.beat_key)
            self._udp.sendto(datagram, ("127.0.0.1", welcome.beat_port))
