"""Connections that belong to ZeroMQ, by their descriptors.

ZeroMQ may close a connection, and the system give its descriptor to another, at any moment. So each look
is at a copy of the descriptor, and a connection is known by its far end. All copies have one place. It
is kept for them, because strangers' connections may have taken every other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from manyhands_broker.descriptor_reserve import reserve


class _Place:
    """Where copies are, and what is there between two of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nothing = self._copy = -1

    @contextlib.contextmanager
    def copied(self, descriptor: int) -> Iterator[socket.socket]:
        """Copy a descriptor. Raises OSError: there is no such descriptor, or it is no socket's."""
        with self._lock:
            if self._copy < 0:
                with reserve():
                    self._nothing, self._copy = os.pipe()
            os.dup2(descriptor, self._copy, inheritable=False)
            try:
                sock = socket.socket(fileno=self._copy)
                try:
                    yield sock
                finally:
                    sock.detach()
            finally:
                os.dup2(self._nothing, self._copy, inheritable=False)


_place = _Place()


def far_end(descriptor: int) -> Any:
    """Return the address at the other end; `None` if there is none any more."""
    with contextlib.suppress(OSError), _place.copied(descriptor) as sock:
        return sock.getpeername()
    return None


def shut(descriptor: int, known: Any) -> None:
    """Shut the connection with this far end down. ZeroMQ then closes it as if the peer had left."""
    with contextlib.suppress(OSError), _place.copied(descriptor) as sock:
        if known is not None and sock.getpeername() == known:
            sock.shutdown(socket.SHUT_RDWR)
