"""A link to a broker on this machine, over a Unix socket."""

from __future__ import annotations

import random
import socket
import time

from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message
from manyhands_shared.transport.address import unix_path
from manyhands_shared.transport.link.base import Link, LinkEvent
from manyhands_shared.transport.peer_credentials import is_trusted, user_of
from manyhands_shared.transport.stream import Stream

#: Between two attempts: the broker may only be starting.
_RETRY_SECONDS = 0.02
_LONGEST_RETRY_SECONDS = 0.5
#: Time that a goodbye has to get out.
_LINGER_SECONDS = 0.5


class UnixLink(Link):
    """See `Link`. `address` is ``unix://PATH``, or ``unix://@NAME`` for one without a file.

    A broker of another user, root's apart, is not spoken to: the link is denied.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stream: Stream | None = None
        self._pause = _RETRY_SECONDS
        self._told_lost = False
        self._denied = False
        self.deadline = time.monotonic()

    @property
    def congested(self) -> bool:
        return self._stream is not None and self._stream.congested

    @property
    def polls_out(self) -> bool:  # type: ignore[override]
        return self.congested

    def pending(self) -> bool:
        return self._stream is not None and self._stream.ended and not self._told_lost

    def event(self, now: float) -> LinkEvent | None:
        if self.deadline is not None and now >= self.deadline and self._connected(now):
            return LinkEvent.UP
        if self._denied:
            self._denied = False
            return LinkEvent.DENIED
        if self.pending():
            self._told_lost = True
            return LinkEvent.LOST
        return None

    def send(self, message: Message) -> None:
        if self._stream is not None:
            self._stream.send(wire.encode(message))

    def drain(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def close(self, *, flush: bool = False) -> None:
        self.descriptors, self.deadline = frozenset(), None
        if self._stream is not None:
            if flush:
                self._stream.linger(_LINGER_SECONDS)
            self._stream.close()
            self._stream = None

    def disown(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def receive(self) -> list[Message]:
        messages: list[Message] = []
        if self._stream is not None and not self._stream.ended:
            for frames in self._stream.receive():
                self._decode(frames, messages)
        return messages

    def _connected(self, now: float) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(unix_path(self._address))
        except (ConnectionError, FileNotFoundError, BlockingIOError):
            sock.close()
            self.deadline = now + self._pause * random.uniform(0.5, 1.0)
            self._pause = min(_LONGEST_RETRY_SECONDS, self._pause * 2)
            return False
        except OSError as error:
            sock.close()
            raise ConfigError(f"cannot connect to {self._address}: {error}") from None
        self.deadline = None
        # What comes from there is unpickled, and any user may listen first at a name without a file.
        if not is_trusted(user_of(sock)):
            sock.close()
            self._denied = True
            return False
        self._stream = Stream(sock)
        self.descriptors = frozenset({self._stream.fileno()})
        return True
