"""Pipes over a cluster; the other names of `multiprocessing.connection` are the standard ones."""

from __future__ import annotations

import os
import socket
from importlib import import_module
from multiprocessing import connection as _standard
from multiprocessing.connection import Client, Listener, wait
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import ends
from manyhands_shared.payloads.pickled import loads as _loads

__all__ = ["Client", "Listener", "Pipe", "wait"]


class Connection(_standard.Connection):  # type: ignore[type-arg, misc, unused-ignore]
    """The standard library's connection, whose objects may hold what the program shares or defines.

    It can be pickled for any process of the program, on any host.
    """

    def send(self, obj: Any) -> None:
        """Send an object."""
        self._check_closed()  # type: ignore[attr-defined]
        self._check_writable()  # type: ignore[attr-defined]
        self._send_bytes(reduction.dumps_bytes(obj))  # type: ignore[attr-defined]

    def recv(self) -> Any:
        """Receive an object.

        Raises:
            EOFError: the other end is closed and nothing is left.
        """
        self._check_closed()  # type: ignore[attr-defined]
        self._check_readable()  # type: ignore[attr-defined]
        return _loads(self._recv_bytes().getvalue())  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        return ends.reduce_connection(self)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802 - multiprocessing's name
    """Return the two ends of a pipe; without `duplex` the first receives and the second sends."""
    if duplex:
        one, two = socket.socketpair()
        one.setblocking(True)
        two.setblocking(True)
        return Connection(one.detach()), Connection(two.detach())
    receiver, sender = os.pipe()
    return Connection(receiver, writable=False), Connection(sender, readable=False)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("multiprocessing.connection"), name)
