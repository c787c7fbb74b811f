"""The broker's door for processes of its own user on this machine: Unix sockets.

The system says whose process is at the other end, so there is no key. The broker lets a user in who
could read its own key.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from manyhands_broker.core import ANYBODY, LinkClosed, Received
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import Port, Take
from manyhands_broker.ports.encoding import Codec
from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message, Refused
from manyhands_shared.transport.address import unix_path
from manyhands_shared.transport.peer_credentials import is_trusted, user_of
from manyhands_shared.transport.stream import Stream

log = logging.getLogger("manyhands.broker")

_BACKLOG = 1_024
_IN, _OUT = select.POLLIN, select.POLLOUT


class UnixPort(Port):
    """Listens on Unix sockets, and carries messages of those that have connected.

    Args:
        addresses: ``unix://PATH`` of each.
        poller: where descriptors are registered.
        codec: makes frames of messages, and messages of frames.

    Raises:
        ConfigError: the system does not allow one of these addresses.
    """

    def __init__(self, addresses: Iterable[str], poller: Poller, codec: Codec) -> None:
        self._poller = poller
        self._codec = codec
        self._listeners: list[socket.socket] = []
        #: Those at which a connection waits for a descriptor.
        self._full: list[socket.socket] = []
        self._files: list[str] = []
        self._by_descriptor: dict[int, tuple[bytes, Stream]] = {}
        self._by_peer: dict[bytes, Stream] = {}
        self._paused = False
        try:
            for address in addresses:
                self._listen(address)
        except ConfigError:
            self.close()
            raise

    def due(self, now: float) -> float:  # noqa: ARG002 - its descriptors tell
        """See `Port`."""
        return math.inf

    def receive(self, ready: Mapping[int, int], now: float, take: Take) -> None:  # noqa: ARG002
        """See `Port`."""
        for descriptor, events in ready.items():
            if descriptor in self._by_descriptor:
                self._receive(descriptor, events, take)

    def send(self, peer: bytes, message: Message) -> bool:
        """See `Port`."""
        stream = self._by_peer.get(peer)
        if stream is None:
            return False
        stream.send(self._codec.encode(message))
        if stream.congested:
            self._register(stream)
        return True

    def check(self, now: float) -> None:  # noqa: ARG002 - whenever it is called
        """Look again at listeners that had no descriptor for a connection."""
        full, self._full = self._full, []
        for listener in full:
            self._await(listener)

    def pause(self, *, on: bool) -> None:
        """See `Port`."""
        self._paused = on
        for _, stream in self._by_descriptor.values():
            self._register(stream)

    def close(self) -> None:
        """End all connections, once the system has taken what they wait to send, and listen no more."""
        for peer, stream in list(self._by_descriptor.values()):
            stream.linger(0.2)
            self._drop(peer, stream.fileno(), stream)
        for listener in self._listeners:
            listener.close()
        for path in self._files:
            with contextlib.suppress(OSError):
                Path(path).unlink()

    def _listen(self, address: str) -> None:
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
        self._await(listener)

    def _await(self, listener: socket.socket) -> None:
        self._poller.on_readable(listener.fileno(), lambda: self._accept(listener))

    def _receive(self, descriptor: int, events: int, take: Take) -> None:
        """Take what a ready connection brings, and its end."""
        peer, stream = self._by_descriptor[descriptor]
        if stream.congested:
            stream.flush()
            self._register(stream)
        if self._paused or events == _OUT:
            return
        messages = stream.receive()
        if stream.ended:
            self._drop(peer, descriptor, stream)
        for frames in messages:
            message = self._codec.decode(peer, frames)
            if message is not None:
                take(Received(peer, message, ANYBODY))
        if stream.ended:
            take(LinkClosed(peer))

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return  # it has left again
        except OSError:
            # There is no descriptor for it, and the poller would tell of it again without end.
            self._poller.ignore(listener.fileno())
            self._full.append(listener)
            return
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
        self._register(stream)

    def _register(self, stream: Stream) -> None:
        events = _IN | _OUT if stream.congested else _IN
        if self._paused:
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
