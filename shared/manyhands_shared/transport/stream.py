"""Messages of several frames over a stream socket between two processes of one machine.

ZeroMQ hands every message to a thread of its own at both ends: four threads are woken on the way where
two would do. Between processes of one machine nothing is encrypted and nothing gets lost. So the
thread that sends a message writes it to the socket.

A message is the number of its frames (four bytes), their lengths (eight bytes each), and the frames;
numbers are little-endian.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Sequence

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.bounds import MAX_FRAMES
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES
from manyhands_shared.transport.buffers import Arriving, flat, send_waiting

_COUNT = struct.Struct("<I")
_HEADS = {count: struct.Struct(f"<I{count}Q") for count in (1, 2, 3)}
_CHUNK_BYTES = 256 << 10
#: What is sent together at once is put into one piece up to this size: a copy is cheaper than a vector.
_JOINED_BYTES = 16 << 10


class Stream:
    """Both directions of a connected stream socket that does not block.

    Args:
        sock: the socket, which belongs to the stream from now on.
    """

    __slots__ = ("_arriving", "_chunk", "_rest", "_socket", "_waiting", "ended")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._waiting: deque[memoryview] = deque()
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._rest = b""
        #: The frames of a message that has come in part.
        self._arriving: Arriving | None = None
        #: Whether the other end is gone, or has sent what is no message.
        self.ended = False

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def congested(self) -> bool:
        """Whether something waits until the socket can be written."""
        return bool(self._waiting)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message behind what waits; what the socket does not take now waits too."""
        count = len(frames)
        views = [flat(frame) for frame in frames]
        lengths = [view.nbytes for view in views]
        head = (_HEADS.get(count) or struct.Struct(f"<I{count}Q")).pack(count, *lengths)
        if sum(lengths) <= _JOINED_BYTES:
            data = b"".join((head, *views))
            if self._waiting:
                self._waiting.append(memoryview(data))
                return
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                if is_from_handler(error):
                    raise
                return  # reading will tell that the connection has ended, and what came before that
            if sent < len(data):
                self._waiting.append(memoryview(data)[sent:])
            return
        congested = bool(self._waiting)
        self._waiting.append(memoryview(head))
        self._waiting.extend(view for view in views if view.nbytes)
        if not congested:
            self.flush()

    def flush(self) -> None:
        """Go on sending."""
        try:
            send_waiting(self._socket, self._waiting)
        except OSError as error:
            if is_from_handler(error):
                raise
            self._waiting.clear()

    def receive(self) -> list[list[Buffer]]:
        """The messages that one look at the socket completes; `ended` says whether it was the last."""
        arriving = self._arriving
        try:
            count = self._socket.recv_into(self._chunk if arriving is None else arriving.room)
        except BlockingIOError:
            return []
        except OSError as error:
            if is_from_handler(error):
                raise
            count = 0
        if not count:
            self.ended = True
            return []
        messages: list[list[Buffer]] = []
        if arriving is not None:
            arriving.came(count)
            if not arriving.room:
                self._arriving = None
                messages.append([*arriving.buffers])
            return messages
        data = bytes(self._chunk[:count])
        try:
            self._cut(self._rest + data if self._rest else data, messages)
        except ProtocolError:
            self.ended = True
        return messages

    def linger(self, seconds: float) -> None:
        """Wait until everything is sent, this long at most."""
        if self._waiting:
            self._socket.settimeout(seconds)
            with contextlib.suppress(OSError):
                self._socket.sendall(b"".join(self._waiting))

    def close(self) -> None:
        """Close the socket; what waits is dropped."""
        self.ended = True
        self._waiting.clear()
        self._socket.close()

    def _cut(self, data: bytes, messages: list[list[Buffer]]) -> None:
        """Take the whole messages of `data`, and keep the rest."""
        view, at, end = memoryview(data), 0, len(data)
        while end - at >= _COUNT.size:
            (count,) = _COUNT.unpack_from(data, at)
            if not 0 < count <= MAX_FRAMES:
                raise ProtocolError(f"{count} frames in a message")
            head = _HEADS.get(count) or struct.Struct(f"<I{count}Q")
            if end - at < head.size:
                break
            lengths = head.unpack_from(data, at)[1:]
            if max(lengths) > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {max(lengths)} bytes")
            at += head.size
            if at + sum(lengths) > end:
                self._arriving = Arriving(lengths)
                self._arriving.take(view[at:])
                at = end
                break
            frames: list[Buffer] = []
            for length in lengths:
                frames.append(data[at : at + length])
                at += length
            messages.append(frames)
        self._rest = data[at:]
