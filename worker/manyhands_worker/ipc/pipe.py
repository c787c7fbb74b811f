"""Messages on the socket pair between the node and one of its children.

A message is four bytes of length, a header (a msgpack array) and raw buffers. The header's last
field lists the buffers' lengths. In its vectors of payloads a `bytes` entry is the payload itself.
An integer *n* says that the payload is the next *n* buffers, as in the protocol of the nodes.

Node to child: ``[first serial, digest, function or nil, flags, bundle or nil, grant or nil, bodies,
lengths]``. A grant is ``[variables, memory]``: those of the environment for these tasks alone, and the
bytes that they may have, or 0. With the flag `TRACE` there is ``[job, attempt, indices, time]`` before
the lengths: when they were sent. A
function is ``[counts, payloads]``: the function's payload itself, then for each count that number of
results. The function is called with these as one list. A bundle is ``[directory, digest, payloads]``,
with the bundle itself if it is not in that directory yet.

Child to node: ``[first serial, statuses, bodies, seconds, worn, run, lengths]``. Here a body may also be
``[position, length, …]``: buffers in the child's slab. A negative position ``-1 - n`` stands for its
segment *n*, whose descriptor comes with the message. `worn` is empty, or says why the child is to be
replaced; such a report may be of no tasks. `run` is ``[begun, cpu, peak]``. That is the monotonic time
in nanoseconds, the CPU time in microseconds, and the most memory in KiB. Short runs are not measured: 0.

The same two classes serve both ends: the child's socket blocks, the node's does not.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections import deque
from typing import Any

import msgpack

from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.transport.buffers import Arriving, flat, send_waiting

#: Flags of a batch. AT_ONCE: each result is handed over at once. CAPTURE: what is printed is captured.
#: APART: standard output and standard error are told apart.
#: DIRECT: a large result may go into a segment. SAFE: functions go by name, values are msgpack.
#: FOREIGN: pickles are of another Python. EACH: each task's output is to be told apart. MARK: so is that
#: of these tasks from what was printed before.
#: TRACE: the header also tells what job, attempt and tasks these are.
#: GROUPED: these are programs, whose results may go in larger groups.
AT_ONCE, CAPTURE, DIRECT, SAFE, FOREIGN, APART, EACH, MARK = 1, 2, 4, 8, 16, 32, 64, 128
TRACE, GROUPED = 256, 512

#: Kept, for making one takes longer than packing a header.
_PACKER = msgpack.Packer(use_bin_type=True)
_PREFIX = struct.Struct("<I")
#: Where chunks of a stream arrive. Room for each one anew would be mapped and unmapped every time.
_CHUNK = memoryview(bytearray(256 * 1024))
_MAX_HEADER_BYTES = 64 << 20
_MAX_BUFFER_BYTES = 4 << 30
_INT = array("i").itemsize
_RIGHTS_BYTES = socket.CMSG_SPACE(16 * _INT)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: A header, and the buffers that came with it.
PipeMessage = tuple[list[Any], list[bytearray]]


class PipeError(Exception):
    """The bytes are no message: something in the child has written to its pipe."""


class Reader:
    """Cuts a stream into messages. A message is there only when its last byte is."""

    __slots__ = ("_arriving", "_rest", "_socket", "fds", "partial", "ready")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._rest: bytes | memoryview = b""
        self._arriving: Arriving | None = None
        #: The header of a message whose buffers are still on their way.
        self.partial: list[Any] | None = None
        #: Whole messages, oldest first; the caller takes them out.
        self.ready: deque[PipeMessage] = deque()
        #: Descriptors that came with messages, in order; the caller's to take out and close.
        self.fds: deque[int] = deque()

    def fill(self) -> int:
        """Receive once. Returns the bytes that came, 0 at the end of the stream.

        Raises:
            BlockingIOError: nothing is there (a socket that does not block).
            PipeError: what came is no message.
            OSError: the connection broke.
        """
        if (arriving := self._arriving) is not None:
            count = self._receive(arriving.room)
            arriving.came(count)
            if not arriving.room:
                self._finish(arriving)
            return count
        count = self._receive(_CHUNK)
        if count:
            chunk = bytes(_CHUNK[:count])
            self._parse(memoryview(bytes(self._rest) + chunk if self._rest else chunk))
        return count

    def _receive(self, room: memoryview) -> int:
        count, rights, _, _ = self._socket.recvmsg_into([room], _RIGHTS_BYTES, _CLOSE_ON_EXEC)
        for level, kind, data in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.fds.extend(array("i", data[: len(data) - len(data) % _INT]))
        return count

    def close(self) -> None:
        """Close the descriptors that were not taken."""
        while self.fds:
            os.close(self.fds.popleft())

    @property
    def hungry(self) -> bool:
        """Whether more of a message is to come."""
        return self.partial is not None or bool(self._rest)

    def _parse(self, data: memoryview) -> None:
        while data:
            if (arriving := self._arriving) is not None:
                data = arriving.take(data)
                if not arriving.room:
                    self._finish(arriving)
                continue
            if len(data) < _PREFIX.size:
                break
            (size,) = _PREFIX.unpack_from(data)
            if size > _MAX_HEADER_BYTES:
                raise PipeError(f"a header of {size} bytes")
            end = _PREFIX.size + size
            if len(data) < end:
                break
            self._start(data[_PREFIX.size : end])
            data = data[end:]
        self._rest = data

    def _start(self, header: memoryview) -> None:
        try:
            fields = msgpack.unpackb(header, raw=False)
            wanted = fields[-1]
            if not all(type(length) is int for length in wanted):
                raise TypeError("lengths")
        except Exception as error:  # noqa: BLE001 - whatever msgpack raises, it is no header
            raise PipeError(f"a header that cannot be read ({error})") from None
        if wanted and (max(wanted) > _MAX_BUFFER_BYTES or min(wanted) < 0):
            raise PipeError("a buffer of an impossible length")
        if not wanted:
            self.ready.append((fields, []))
            return
        self.partial, self._arriving = fields, Arriving(wanted)
        if not self._arriving.room:
            self._finish(self._arriving)

    def _finish(self, arrived: Arriving) -> None:
        if self.partial is not None:
            self.ready.append((self.partial, arrived.buffers))
        self.partial = self._arriving = None


class Writer:
    """Sends messages; what a socket that does not block will not take now waits here."""

    __slots__ = ("_socket", "_waiting")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._waiting: deque[memoryview] = deque()

    def send(self, header: list[Any], buffers: list[Buffer], fds: list[int] | None = None) -> bool:
        """Send a message, as far as the socket takes it. `header` is without the lengths.

        `fds` go with its first byte, which takes a socket that blocks. Returns whether everything is
        out; if not, call `flush` when the socket can be written.

        Raises:
            OSError: the connection broke.
        """
        views: list[memoryview] = []
        lengths: list[int] = []
        if buffers:
            views = [view for view in map(flat, buffers) if view.nbytes]
            lengths = [memoryview(buffer).nbytes for buffer in buffers]
        packed = _PACKER.pack([*header, lengths])
        prefix = _PREFIX.pack(len(packed))
        if fds:
            socket.send_fds(self._socket, [prefix[:1]], fds)
            prefix = prefix[1:]
        data = prefix + packed
        sent = 0
        if not (self._waiting or views):  # as nearly always: spared a vector
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return True
        self._waiting.append(memoryview(data)[sent:])
        self._waiting.extend(views)
        return send_waiting(self._socket, self._waiting)

    def flush(self) -> bool:
        """Go on sending. Returns whether everything is out now."""
        return send_waiting(self._socket, self._waiting)


def pack(payloads: list[Payload], buffers: list[Buffer]) -> list[bytes | int]:
    """A vector of payloads for a header; what does not fit in there goes to `buffers`."""
    if set(map(type, payloads)) <= {bytes}:
        return payloads  # type: ignore[return-value]
    packed: list[bytes | int] = []
    for payload in payloads:
        if isinstance(payload, bytes):
            packed.append(payload)
        else:
            packed.append(len(payload))
            buffers.extend(payload)
    return packed


def unpack(entries: list[bytes | int], buffers: list[bytearray]) -> list[Payload]:
    """The reverse of `pack`. Buffers come as they are, writable, so that arrays on them are too."""
    if set(map(type, entries)) <= {bytes}:
        return entries  # type: ignore[return-value]
    rest = iter(buffers)
    return [
        entry if isinstance(entry, bytes) else tuple(next(rest) for _ in range(entry))
        for entry in entries
    ]
