"""The UDP server for heartbeats: a process of its own, so that nothing the broker does delays it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from typing import Any

from manyhands_broker.lastseen import take
from manyhands_shared.beat import DATAGRAM_BYTES
from manyhands_shared.process import die_with_parent

_CONTEXT = multiprocessing.get_context("spawn")


class HeartbeatMonitor(_CONTEXT.Process):  # type: ignore[name-defined,misc]
    """Receives heartbeats on a bound UDP socket and enters them into the last-seen table."""

    def __init__(self, sock: socket.socket, table: Any) -> None:
        super().__init__(name="manyhands-monitor", daemon=True)
        self._socket = sock
        self._table = table
        self._parent = os.getpid()

    def run(self) -> None:
        """Serve until the broker is gone."""
        die_with_parent(self._parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sock, table = self._socket, self._table
        sock.settimeout(5.0)
        while os.getppid() == self._parent:
            with contextlib.suppress(OSError):  # a timeout, or an ICMP error of someone else's
                # One byte more than a heartbeat, to tell a longer datagram from a whole one.
                datagram = sock.recv(DATAGRAM_BYTES + 1)
                take(table, datagram, time.monotonic())


def bind_udp(host: str, port: int) -> socket.socket:
    """A bound UDP socket; port 0 picks a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
