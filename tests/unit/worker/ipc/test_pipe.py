"""The pipe's framing, and the small books that node and child keep alike."""

from __future__ import annotations

import ctypes
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands_worker.function_cache import FunctionCache
from manyhands_worker.ipc import control_block
from manyhands_worker.ipc.pipe import PipeError, Reader, Writer, pack, unpack
from manyhands_worker.ipc.slab import SlabError, SlabLedger, SlabWriter, new_slab


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def test_messages_of_all_sizes_arrive_whole_and_in_order(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    writer, reader = Writer(pair[0]), Reader(pair[1])
    chance = random.Random(7)
    sent = [
        [
            os.urandom(chance.choice([0, 1, 100, 70_000, 400_000]))
            for _ in range(chance.randrange(4))
        ]
        for _ in range(60)
    ]
    done = True
    for number, buffers in enumerate(sent):
        done = writer.send([number], buffers)
    got: list[Any] = []
    while len(got) < len(sent):
        done = done or writer.flush()
        try:
            reader.fill()
        except BlockingIOError:
            continue
        while reader.ready:
            header, parts = reader.ready.popleft()
            got.append((header[0], [bytes(part) for part in parts]))
    assert got == list(enumerate(sent))
    assert done


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_waits_for_more(data: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data or b"x")
        reader = Reader(far)
        try:
            reader.fill()
        except PipeError:
            return
        assert len(reader.ready) <= len(data)


@given(st.lists(st.one_of(st.binary(max_size=9), st.lists(st.binary(max_size=9), min_size=1))))
def test_payload_vectors(values: list[bytes | list[bytes]]) -> None:
    payloads = [value if isinstance(value, bytes) else tuple(value) for value in values]
    buffers: list[bytes] = []
    entries = pack(payloads, buffers)
    assert unpack(entries, [bytearray(buffer) for buffer in buffers]) == payloads


def test_function_cache_drops_the_one_used_longest_ago() -> None:
    cache: FunctionCache[int] = FunctionCache(100)
    for number in range(4):
        cache.put(bytes([number]), number, 30)
    assert b"\0" not in cache
    assert cache.get(b"\1") == 1
    cache.put(b"\4", 4, 30)
    assert b"\1" in cache
    assert b"\2" not in cache
    cache.put(b"\5", 5, 1_000)
    assert [bytes([n]) in cache for n in range(6)] == [False] * 5 + [True]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500_000), st.booleans()), max_size=40))
def test_slab_ring_never_gives_room_twice(steps: list[tuple[int, bool]]) -> None:
    words = control_block.words(control_block.new_block())
    slab = new_slab(1 << 20)
    writer, ledger = SlabWriter(slab, words), SlabLedger(slab, words)
    live = []
    for serial, (size, free) in enumerate(steps, 1):
        data = bytes([serial % 251]) * size
        position = writer.write(serial, [memoryview(data)])
        if position is not None:
            block, (view,) = ledger.take(serial, serial, position, [size])
            live.append((block, view, data))
        if free and live:
            live.pop(serial % len(live))[0].free()
        assert all(view == data for _, view, data in live)
    for block, _, _ in live:
        block.free()
    assert writer.write(99, [memoryview(bytes(500_000))]) is not None


def test_a_block_that_is_not_what_it_says_is_refused() -> None:
    words = control_block.words(control_block.new_block())
    slab = new_slab(1 << 20)
    writer, ledger = SlabWriter(slab, words), SlabLedger(slab, words)
    position = writer.write(5, [memoryview(bytes(100))])
    assert position == 0
    for first, last, at, lengths in [
        (1, 4, 0, [100]),
        (5, 5, 0, [99]),
        (5, 5, 64, [100]),
        (5, 5, -64, [100]),
        (5, 5, 0, [2 << 20]),
        (5, 5, 0, [-1]),
    ]:
        with pytest.raises(SlabError):
            ledger.take(first, last, at, lengths)
    mark = bytes(writer._view[24:32])
    writer._view[24:32] = bytes(8)  # as if its writer had died before the last word
    with pytest.raises(SlabError):
        ledger.take(5, 5, 0, [100])
    writer._view[24:32] = mark
    ledger.take(5, 5, 0, [100])
    with pytest.raises(SlabError):  # not twice
        ledger.take(5, 5, 0, [100])


def test_no_room_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from manyhands_worker.ipc import slab as module

    class Libc:
        @staticmethod
        def madvise(*_: object) -> int:
            return -1

    words = control_block.words(control_block.new_block())
    writer = SlabWriter(new_slab(1 << 20), words)
    monkeypatch.setattr(module, "_libc", Libc)
    monkeypatch.setattr(ctypes, "get_errno", lambda: 14)
    assert writer.write(1, [memoryview(bytes(100))]) is None
    # A kernel that does not know the question: then what is free decides.
    monkeypatch.setattr(ctypes, "get_errno", lambda: 22)
    monkeypatch.setattr(module, "free_shared_memory", lambda: 1 << 20)
    assert writer.write(1, [memoryview(bytes(100))]) is None
    monkeypatch.setattr(module, "free_shared_memory", lambda: 1 << 30)
    assert writer.write(1, [memoryview(bytes(100))]) == 0
