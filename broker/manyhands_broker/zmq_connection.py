"""Connections that belong to ZeroMQ, by their descriptors.

ZeroMQ may close a connection, and the system give its descriptor to another, at any moment. So each look
is at a copy of the descriptor, and a connection is known by its far end.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from manyhands_broker.descriptor_reserve import reserve


def far_end(descriptor: int) -> Any:
    """Return the address at the other end; `None` if there is none any more."""
    with contextlib.suppress(OSError), _copied(descriptor) as sock:
        return sock.getpeername()
    return None


def shut(descriptor: int, known: Any) -> None:
    """Shut the connection with this far end down. ZeroMQ then closes it as if the peer had left."""
    with contextlib.suppress(OSError), _copied(descriptor) as sock:
        if known is not None and sock.getpeername() == known:
            sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _copied(descriptor: int) -> Iterator[socket.socket]:
    """Raises OSError: there is no such descriptor, or it is no socket's."""
    with reserve():
        copy = os.dup(descriptor)
    try:
        sock = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with sock:
        yield sock
