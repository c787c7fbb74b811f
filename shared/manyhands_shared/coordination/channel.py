"""The channel between a member of a program and its host agent: messages and descriptors, both ends.

It is framed as links on Unix sockets are (`transport.stream`), with one difference. The upper byte of a
message's first number counts the descriptors that come with the message's first byte. Linux never
merges the bytes of two such messages in one read, so each message finds its own.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.bounds import MAX_FRAMES
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES
from manyhands_shared.transport.buffers import flat

#: Descriptors that one message may bring.
MAX_DESCRIPTORS = 64
_COUNT = struct.Struct("<I")
_LENGTH_BYTES = 8
#: Before a message of one frame, which most are: its count and its length.
_SINGLE = struct.Struct("<IQ")
_CHUNK_BYTES = 256 << 10
_ROOM = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
# Plain numbers: arithmetic on the enumerations costs as much as to cut a message.
_CLOSE_ON_EXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)


@dataclass(slots=True)
class _Outgoing:
    """A message on its way, and its descriptors until the first byte is sent."""

    data: memoryview
    descriptors: tuple[int, ...] = ()
    #: What each call to the system has sent. A signal handler that raises behind a call loses nothing.
    sent: list[int] = field(default_factory=list)


class MemberChannel:
    """One end of a connected channel. Its socket does not block.

    The sender's descriptors stay its own: it may close them when `send` has returned. Received ones
    belong to the receiver. Not to be used by two threads at a time.

    Args:
        sock: the socket, which belongs to the channel from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._waiting: deque[_Outgoing] = deque()
        self._data = bytearray()
        self._descriptors: deque[int] = deque()
        self._flushes = False
        #: Whether the other end is gone, or has sent what is no message.
        self.ended = False
        #: Whether the last look at the socket found nothing.
        self.dry = False

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def congested(self) -> bool:
        """Whether something waits until the socket can be written."""
        return bool(self._waiting)

    @property
    def backlog(self) -> int:
        """Bytes that wait until the socket can be written."""
        return sum(one.data.nbytes - sum(one.sent) for one in self._waiting)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message behind what waits; what the socket does not take now waits too.

        Raises:
            ProtocolError: the message is beyond its bounds, or has too many descriptors.
            OSError: there is no descriptor left to keep a copy of one that has to wait.
        """
        if len(descriptors) > MAX_DESCRIPTORS:
            raise ProtocolError(f"{len(descriptors)} descriptors in a message")
        frames = wire.encode(message)
        count = len(frames) | len(descriptors) << 24
        if len(frames) == 1:
            header = frames[0]
            data = _SINGLE.pack(count, len(header)) + header
        else:
            flats = [flat(frame) for frame in frames]
            lengths = [frame.nbytes for frame in flats]
            data = b"".join((struct.pack(f"<I{len(flats)}Q", count, *lengths), *flats))
        # The caller may close its own before they have left.
        copies = _copies(descriptors) if descriptors else ()
        self._waiting.append(_Outgoing(memoryview(data), copies))
        self.flush()

    def flush(self) -> None:
        """Go on sending. A signal handler may interrupt it anywhere: it can be called again."""
        # A finalizer that runs in here has added to what waits: this goes on with it.
        if self._flushes:
            return
        try:
            self._flushes = True
            self._flush()
        finally:
            self._flushes = False

    def _flush(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            at = sum(first.sent) if first.sent else 0
            if at and first.descriptors:
                _close_all(first.descriptors)
                first.descriptors = ()
            if at >= first.data.nbytes:
                self._waiting.popleft()
                continue
            ancillary = _rights(first.descriptors) if first.descriptors else []
            try:
                # No byte code runs between the call and the note of what it has sent.
                first.sent.extend(map(self._socket.sendmsg, [[first.data[at:]]], [ancillary]))
            except BlockingIOError:
                return
            except OSError as error:
                if is_from_handler(error):
                    raise
                # Reading will tell that the other end is gone, and what came before that.
                first.sent.append(first.data.nbytes)

    def receive(self) -> list[tuple[Message, list[int]]]:
        """The messages that one look at the socket completes, each with its descriptors.

        `ended` says whether they were the last.
        """
        self.dry = False
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_CHUNK_BYTES, _ROOM, _CLOSE_ON_EXEC)
        except BlockingIOError:
            self.dry = True
            return []
        except OSError as error:
            if is_from_handler(error):
                raise
            data, ancillary, flags = b"", [], 0
        for level, kind, numbers in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(numbers[: len(numbers) - len(numbers) % found.itemsize])
                self._descriptors.extend(found)
        self._data += data
        # Without room for its descriptors a message would get those of the next.
        self.ended = not data or bool(flags & _TRUNCATED)
        messages: list[tuple[Message, list[int]]] = []
        try:
            while (frames := self._cut()) is not None:
                descriptors, parts = frames
                messages.append((wire.decode(parts), descriptors))
        except ProtocolError:
            self.ended = True
        return messages

    def close(self) -> None:
        """Close the socket and every descriptor that nothing has taken; what waits is dropped."""
        self.ended = True
        for one in self._waiting:
            _close_all(one.descriptors)
        self._waiting.clear()
        _close_all(self._descriptors)
        self._descriptors.clear()
        self._socket.close()

    def _cut(self) -> tuple[list[int], list[Buffer]] | None:
        """Take the first whole message: its descriptors and frames; None if there is none."""
        data = self._data
        if len(data) < _COUNT.size:
            return None
        (first,) = _COUNT.unpack_from(data)
        if first == 1:
            return self._cut_single(data)
        count, descriptors = first & 0xFFFFFF, first >> 24
        if not 0 < count <= MAX_FRAMES or descriptors > MAX_DESCRIPTORS:
            raise ProtocolError(f"{count} frames and {descriptors} descriptors in a message")
        at = _COUNT.size + _LENGTH_BYTES * count
        if len(data) < at:
            return None
        lengths = struct.unpack_from(f"<{count}Q", data, _COUNT.size)
        if max(lengths) > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {max(lengths)} bytes")
        end = at + sum(lengths)
        if len(data) < end:
            return None
        if len(self._descriptors) < descriptors:
            raise ProtocolError("a message without its descriptors")
        frames: list[Buffer] = []
        for length in lengths:
            frames.append(bytes(data[at : at + length]))
            at += length
        del data[:end]
        return [self._descriptors.popleft() for _ in range(descriptors)], frames

    def _cut_single(self, data: bytearray) -> tuple[list[int], list[Buffer]] | None:
        """Do that for a message of one frame, without descriptors."""
        size = len(data)
        if size < _SINGLE.size:
            return None
        _, length = _SINGLE.unpack_from(data)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes")
        end = _SINGLE.size + length
        if size < end:
            return None
        frame = bytes(data[_SINGLE.size : end])
        del data[:end]
        return [], [frame]


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    """Return what sends descriptors along."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]


def _copies(descriptors: Sequence[int]) -> tuple[int, ...]:
    """Return copies of descriptors.

    Raises:
        OSError: there are not enough for all.
    """
    copies: list[int] = []
    try:
        copies.extend(map(os.dup, descriptors))
    except OSError:
        _close_all(copies)
        raise
    return tuple(copies)


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
