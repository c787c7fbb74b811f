"""How the frames of a message travel over ZeroMQ: none is longer than `PIECE_BYTES`.

ZeroMQ has one bound on the size of a frame for a whole socket. It holds for strangers too, from the
first byte of their connection on. So it is small, and a message with a longer frame is cut. Its first
frame on the wire is then the byte ``c1``, which begins no msgpack. The length of each frame of the
message follows there, eight bytes each, little-endian. Behind it come these frames, one after the
other, each in pieces of `PIECE_BYTES`; the last piece may be shorter. An empty frame has no piece.

With CURVE that is faster than long frames: one piece is encrypted while another is on its way.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator

import zmq

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol.bounds import MAX_FRAMES
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES
from manyhands_shared.transport.buffers import flat

PIECE_BYTES = 256 << 10
#: For `zmq.MAXMSGSIZE`: CURVE puts 33 bytes around each frame.
MAX_ZMQ_BYTES = PIECE_BYTES + 64
_MARK = b"\xc1"
_LENGTH_BYTES = 8
# A plain number, as in `link.zeromq`.
_NOBLOCK = int(zmq.NOBLOCK)


def cut(frames: list[Buffer]) -> list[Buffer]:
    """Return the frames to put on the wire for the frames of a message."""
    if len(frames) == 1 and len(frames[0]) <= PIECE_BYTES:
        return frames
    views = [flat(frame) for frame in frames]
    lengths = [view.nbytes for view in views]
    if max(lengths) <= PIECE_BYTES:
        return frames
    pieces: list[Buffer] = [_MARK + struct.pack(f"<{len(lengths)}Q", *lengths)]
    for view in views:
        pieces += [view[at : at + PIECE_BYTES] for at in range(0, view.nbytes, PIECE_BYTES)]
    return pieces


def join(wire_frames: Iterable[Buffer]) -> list[Buffer]:
    """Return the frames of the message that `cut` made these of.

    Raises:
        ProtocolError: it did not.
    """
    rest = iter(wire_frames)
    first = next(rest, b"")
    if bytes(first[:1]) == _MARK:
        return _join(first, rest)
    frames = [first, *itertools.islice(rest, MAX_FRAMES - 1)]
    if next(rest, None) is not None:
        raise ProtocolError(f"more than {MAX_FRAMES} frames in a message")
    return frames


def receive(first: zmq.Frame, sock: zmq.Socket[bytes]) -> list[Buffer]:
    """Return the frames of a message whose first frame on the wire was received, and take its others.

    Raises:
        ProtocolError: they are none. All of them are taken.
    """
    rest = _rest(first, sock)
    try:
        return join(itertools.chain((first.buffer,), rest))
    finally:
        for _ in rest:
            pass


def skip(last: zmq.Frame, sock: zmq.Socket[bytes]) -> None:
    """Take what comes of a message behind the frame that was received last, and drop it."""
    for _ in _rest(last, sock):
        pass


def _rest(frame: zmq.Frame, sock: zmq.Socket[bytes]) -> Iterator[Buffer]:
    """The frames of a message behind the one that was received last, in ZeroMQ's own memory."""
    # A frame knows it. To ask the socket takes thirty times as long.
    while frame.more:
        frame = sock.recv(_NOBLOCK, copy=False)
        yield frame.buffer


def _join(head: Buffer, pieces: Iterator[Buffer]) -> list[Buffer]:
    """Put frames together. Memory grows with what has come, whatever lengths the head claims."""
    count, odd = divmod(len(head) - len(_MARK), _LENGTH_BYTES)
    if odd or not 0 < count <= MAX_FRAMES:
        raise ProtocolError("a message in pieces without the lengths of its frames")
    frames: list[Buffer] = []
    for length in struct.unpack_from(f"<{count}Q", head, len(_MARK)):
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes")
        if length <= PIECE_BYTES:
            frames.append(_next(pieces, length) if length else b"")
            continue
        frame = bytearray()
        while len(frame) < length:
            frame += _next(pieces, min(PIECE_BYTES, length - len(frame)))
        frames.append(frame)
    if next(pieces, None) is not None:
        raise ProtocolError("a message in more pieces than its lengths say")
    return frames


def _next(pieces: Iterator[Buffer], length: int) -> Buffer:
    piece = next(pieces, b"")
    if len(piece) != length:
        raise ProtocolError(f"a piece of {len(piece)} bytes in place of {length}")
    return piece
