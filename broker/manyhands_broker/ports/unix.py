"""The broker's door for processes of its own user on this machine: Unix sockets.

The system says whose process is at the other end, so there is no key: whoever could read the broker's
own is let in.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhands_shared.errors import ConfigError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Refused
from manyhands_shared.transport.address import unix_path
from manyhands_shared.transport.peer_credentials import is_trusted, user_of
from manyhands_shared.transport.stream import Stream

log = logging.getLogger("manyhands.broker")

_BACKLOG = 1_024
_IN, _OUT = select.POLLIN, select.POLLOUT


class UnixPort:
    """Listens on Unix sockets, and carries messages of those that have connected.

    Args:
        poller: the loop's, where descriptors are registered.
        on_readable: has the loop call something when a descriptor can be read.
    """

    def __init__(
        self, poller: select.poll, on_readable: Callable[[int, Callable[[], object]], None]
    ) -> None:
        self._poller = poller
        self._on_readable = on_readable
        self._listeners: list[socket.socket] = []
        self._files: list[str] = []
        self._by_descriptor: dict[int, tuple[bytes, Stream]] = {}
        self._by_peer: dict[bytes, Stream] = {}
        self._deaf = False

    @property
    def descriptors(self) -> Any:
        """Those of connections, for which `receive` is to be called when they are ready."""
        return self._by_descriptor.keys()

    def listen(self, address: str) -> None:
        """Take connections at ``unix://PATH`` too.

        Raises:
            ConfigError: that cannot be done.
        """
        path = unix_path(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            _bind(listener, path)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {address}: {error}; choose another with --bind"
            ) from None
        if not path.startswith("\0"):
            self._files.append(path)
        self._listeners.append(listener)
        self._on_readable(listener.fileno(), lambda: self._accept(listener))

    def receive(self, descriptor: int, events: int) -> tuple[bytes, list[list[Buffer]], bool]:
        """What a ready connection brings: its peer, whole messages, whether it has ended."""
        peer, stream = self._by_descriptor[descriptor]
        if stream.congested:
            stream.flush()
            self._watch(stream)
        if self._deaf or events == _OUT:
            return peer, [], False
        messages = stream.receive()
        if stream.ended:
            self._drop(peer, descriptor, stream)
        return peer, messages, stream.ended

    def send(self, peer: bytes, frames: list[Any]) -> bool:
        """Send, or keep until the connection takes it; false if `peer` has none here."""
        stream = self._by_peer.get(peer)
        if stream is None:
            return False
        stream.send(frames)
        if stream.congested:
            self._watch(stream)
        return True

    def listening(self, yes: bool) -> None:
        """Whether connections are read."""
        self._deaf = not yes
        for _, stream in self._by_descriptor.values():
            self._watch(stream)

    def close(self) -> None:
        """End all connections and listen no more."""
        for peer, stream in list(self._by_descriptor.values()):
            stream.linger(0.2)
            self._drop(peer, stream.fileno(), stream)
        for listener in self._listeners:
            listener.close()
        for path in self._files:
            with contextlib.suppress(OSError):
                Path(path).unlink()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # it has left again; or there are no descriptors, and it waits
        stream = Stream(sock)
        user = user_of(sock)
        if not is_trusted(user):
            reason = f"this broker is another user's ({os.geteuid()}, and you are {user})"
            stream.send(wire.encode(Refused("user", reason)))
            stream.close()
            return
        peer = os.urandom(16)  # as unguessable as those that ZeroMQ's peers choose
        self._by_descriptor[stream.fileno()] = peer, stream
        self._by_peer[peer] = stream
        self._watch(stream)

    def _watch(self, stream: Stream) -> None:
        events = _IN | _OUT if stream.congested else _IN
        if self._deaf:
            events &= ~_IN
        self._poller.register(stream.fileno(), events)

    def _drop(self, peer: bytes, descriptor: int, stream: Stream) -> None:
        self._poller.unregister(descriptor)
        del self._by_descriptor[descriptor], self._by_peer[peer]
        stream.close()


def _bind(listener: socket.socket, path: str) -> None:
    """Bind, in the place of a file that a broker has left which was killed."""
    mask = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or path.startswith("\0") or _answers(path):
                raise
            Path(path).unlink()
            listener.bind(path)
    finally:
        os.umask(mask)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
