"""Messages over a stream socket: whatever the cuts and sizes, what is sent is what comes."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands_shared.protocol import bounds, wire
from manyhands_shared.transport.stream import Stream


@pytest.fixture
def pair() -> Iterator[tuple[Stream, Stream]]:
    near, far = map(Stream, socket.socketpair())
    yield near, far
    near.close()
    far.close()


def pump(sender: Stream, receiver: Stream, count: int) -> list[list[bytes]]:
    """What the receiver has after `count` messages, while the sender goes on as it can."""
    came: list[list[bytes]] = []
    while len(came) < count:
        waiting = [sender] if sender.congested else []
        readable, writable, _ = select.select([receiver], waiting, [], 100)
        assert readable or writable, "nothing moves"
        if writable:
            sender.flush()
        if readable:
            came += [[bytes(frame) for frame in frames] for frames in receiver.receive()]
            assert not receiver.ended
    return came


_FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 700_000).map(lambda size: bytes([size % 251]) * size),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_FRAMES, min_size=1, max_size=8))
def test_messages_come_whole_and_in_order(messages: list[list[bytes]]) -> None:
    sender, receiver = map(Stream, socket.socketpair())
    try:
        for frames in messages:
            sender.send(frames)
        assert pump(sender, receiver, len(messages)) == messages
    finally:
        sender.close()
        receiver.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(_FRAMES, min_size=1, max_size=4), st.data())
def test_a_stream_may_be_cut_anywhere(messages: list[list[bytes]], data: st.DataObject) -> None:
    raw = b"".join(
        struct.pack(f"<I{len(frames)}Q", len(frames), *map(len, frames)) + b"".join(frames)
        for frames in messages
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    near, far = socket.socketpair()
    near.setblocking(False)
    receiver = Stream(far)
    came: list[list[bytes]] = []
    try:
        for low, high in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            part = memoryview(raw)[low:high]
            while part:
                if select.select([], [near], [], 0)[1]:
                    part = part[near.send(part[:100_000]) :]
                came += [[bytes(frame) for frame in frames] for frames in receiver.receive()]
        while len(came) < len(messages):
            assert select.select([receiver], [], [], 100)[0]
            came += [[bytes(frame) for frame in frames] for frames in receiver.receive()]
        assert came == messages
    finally:
        near.close()
        receiver.close()


def test_arrays_and_views_are_sent_as_bytes(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    near.send([b"head", memoryview(bytearray(range(256)) * 100).cast("I")])
    assert pump(near, far, 1) == [[b"head", bytes(range(256)) * 100]]


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<I", 0),
        struct.pack("<I", bounds.MAX_FRAMES + 1),
        struct.pack("<IQ", 1, wire.MAX_FRAME_BYTES + 1),
        b"\xff" * 64,
    ],
)
def test_what_is_no_message_ends_the_stream(raw: bytes) -> None:
    near, far = socket.socketpair()
    receiver = Stream(far)
    near.sendall(raw)
    assert receiver.receive() == []
    assert receiver.ended
    receiver.close()
    near.close()


def test_the_last_words_of_a_peer_that_left_are_read(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    near.send([b"farewell"])
    near.close()
    # This is not read, and it is not what ends the stream.
    far.send([b"too late"])
    assert far.receive() == [[b"farewell"]]
    assert not far.ended
    assert far.receive() == []
    assert far.ended
