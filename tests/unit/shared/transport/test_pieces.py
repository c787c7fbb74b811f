"""Messages with long frames travel over ZeroMQ in pieces."""

from __future__ import annotations

import struct

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol.bounds import MAX_FRAMES
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES
from manyhands_shared.transport import zmq_pieces
from manyhands_shared.transport.zmq_pieces import MAX_ZMQ_BYTES, PIECE_BYTES

_SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7)


def head(*lengths: int) -> bytes:
    return b"\xc1" + struct.pack(f"<{len(lengths)}Q", *lengths)


@given(st.lists(st.sampled_from(_SIZES), min_size=1, max_size=5))
def test_what_is_cut_is_joined_again(sizes: list[int]) -> None:
    frames = [bytes([65 + at]) * size for at, size in enumerate(sizes)]
    sent = zmq_pieces.cut(frames)
    assert all(len(frame) <= PIECE_BYTES for frame in sent)
    assert (sent == frames) is (max(sizes) <= PIECE_BYTES)
    assert zmq_pieces.cut(sent) == sent, "which may be asked again"
    assert [bytes(frame) for frame in zmq_pieces.join(sent)] == frames


def test_frames_of_other_shapes_are_cut_by_their_bytes() -> None:
    numbers = memoryview(bytearray(8 * PIECE_BYTES)).cast("d")
    sent = zmq_pieces.cut([b"header", numbers])
    assert [len(frame) for frame in sent] == [17, 6, *[PIECE_BYTES] * 8]


def test_nothing_is_cut_that_need_not_be() -> None:
    frames = [b"x" * PIECE_BYTES]
    assert zmq_pieces.cut(frames) is frames
    assert zmq_pieces.join(frames) == frames


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xc1"],
        [b"\xc1" + bytes(7)],
        [head(5)],
        [head(5), b"four"],
        [head(5), b"sixsix"],
        [head(5), b"right", b"more"],
        [head(5), b"right", b""],
        [head(0), b""],
        [head(PIECE_BYTES + 1), b"x" * (PIECE_BYTES + 1)],
        [head(PIECE_BYTES + 1), b"x" * PIECE_BYTES],
        [head(PIECE_BYTES + 1), b"x", b"x" * PIECE_BYTES],
        [head(MAX_FRAME_BYTES), b"x" * PIECE_BYTES],
        [head(MAX_FRAME_BYTES + 1), b"x" * PIECE_BYTES],
        [head((1 << 64) - 1), b"x" * PIECE_BYTES],
        [head(*[0] * (MAX_FRAMES + 1))],
        [b""] * (MAX_FRAMES + 1),
    ],
    ids=lambda frames: f"{len(frames)}-{len(frames[0])}",
)
def test_what_was_not_cut_so_is_no_message(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        zmq_pieces.join(frames)


def test_a_message_that_is_none_is_taken_whole() -> None:
    """Else its last frames would be taken for the next message."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        one.maxmsgsize = MAX_ZMQ_BYTES
        port = one.bind_to_random_port("tcp://127.0.0.1")
        two.connect(f"tcp://127.0.0.1:{port}")
        two.linger = 0
        two.send_multipart([head(3), b"no", b"no", b"no"])
        two.send_multipart(zmq_pieces.cut([b"y" * (PIECE_BYTES + 5)]))
        assert one.poll(10_000)
        with pytest.raises(ProtocolError, match="a piece of 2 bytes"):
            zmq_pieces.receive(one.recv(copy=False), one)
        assert one.poll(10_000)
        assert zmq_pieces.receive(one.recv(copy=False), one) == [b"y" * (PIECE_BYTES + 5)]
