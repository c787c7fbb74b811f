"""Buffers on their way over a stream socket: out as far as it takes them, in straight to their place."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable

from manyhands_shared.payloads.payload import Buffer

_MAX_VECTOR = 512  # buffers in one sendmsg, within every system's IOV_MAX
_NOTHING = memoryview(b"")


def flat(buffer: Buffer) -> memoryview:
    """A buffer of whatever format and shape as plain bytes."""
    view = memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def send_waiting(sock: socket.socket, waiting: deque[memoryview]) -> bool:
    """Send what waits, as far as the socket takes it. Returns whether everything is out now.

    Raises:
        OSError: the connection broke.
    """
    while waiting:
        vector = [waiting[i] for i in range(min(len(waiting), _MAX_VECTOR))]
        try:
            sent = sock.sendmsg(vector)
        except BlockingIOError:
            return False
        for view in vector:
            if sent < view.nbytes:
                waiting[0] = view[sent:]
                break
            sent -= view.nbytes
            waiting.popleft()
    return True


class Arriving:
    """The buffers of a message that has come in part.

    Args:
        lengths: theirs, in bytes.
    """

    __slots__ = ("_lengths", "buffers", "room")

    def __init__(self, lengths: Iterable[int]) -> None:
        self._lengths = iter(lengths)
        #: Those that are there, and the one that is being filled.
        self.buffers: list[bytearray] = []
        #: Where the next bytes belong; empty once everything is there.
        self.room = _NOTHING
        self._next()

    def came(self, count: int) -> None:
        """Note that `count` bytes have been put into `room`."""
        self.room = self.room[count:]
        if not self.room:
            self._next()

    def take(self, data: memoryview) -> memoryview:
        """Put `data` where it belongs; returns what is left of it when everything is there."""
        while data and self.room:
            count = min(len(self.room), len(data))
            self.room[:count] = data[:count]
            data = data[count:]
            self.came(count)
        return data

    def _next(self) -> None:
        for length in self._lengths:
            buffer = bytearray(length)
            self.buffers.append(buffer)
            if buffer:
                self.room = memoryview(buffer)
                return
        self.room = _NOTHING
