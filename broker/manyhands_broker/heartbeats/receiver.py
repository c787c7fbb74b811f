"""The UDP server for heartbeats: a process of its own, so that nothing the broker does delays it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

from manyhands_broker.heartbeats.table import take
from manyhands_broker.service_process import ServiceProcess
from manyhands_shared.protocol.heartbeat import DATAGRAM_BYTES


class HeartbeatMonitor(ServiceProcess):
    """Receives heartbeats on bound UDP sockets and enters them into the last-seen table."""

    def __init__(self, sockets: Sequence[socket.socket], table: Any) -> None:
        super().__init__("manyhands-monitor")
        self._sockets = sockets
        self._table = table

    def serve(self) -> None:
        """Take datagrams until the broker is gone."""
        table = self._table
        with selectors.DefaultSelector() as selector:
            for sock in self._sockets:
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ, sock)
            while not self.parent_is_gone():
                for key, _ in selector.select(5.0):
                    # Nothing there after all, or an ICMP error of someone else's.
                    with contextlib.suppress(OSError):
                        # One byte more than a heartbeat, to tell a longer datagram from a whole one.
                        datagram = key.data.recv(DATAGRAM_BYTES + 1)
                        take(table, datagram, time.monotonic())


def bind_udp(host: str, port: int) -> socket.socket:
    """A bound UDP socket; port 0 picks a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            # As ZeroMQ does for TCP: all addresses means those of IPv4 too.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
