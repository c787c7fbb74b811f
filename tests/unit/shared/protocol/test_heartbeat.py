"""The heartbeat datagram."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.strategies import built
from manyhands_shared.protocol import heartbeat
from manyhands_shared.protocol.heartbeat import Beat

#: No numbers, and one by which nothing can be divided.
ODD = (math.nan, math.inf, -math.inf, -1.0, 5e-324)
KEY = b"k" * heartbeat.KEY_BYTES
BEATS = built(Beat)


@given(BEATS)
def test_a_beat_comes_back_and_verifies(sent: Beat) -> None:
    datagram = heartbeat.encode(sent, KEY)
    assert len(datagram) == heartbeat.DATAGRAM_BYTES == 112
    assert heartbeat.peek(datagram) == sent
    assert heartbeat.verify(datagram, KEY)


@given(BEATS, st.integers(0, heartbeat.DATAGRAM_BYTES - 1), st.integers(1, 255))
def test_any_changed_byte_breaks_the_signature(sent: Beat, at: int, flip: int) -> None:
    datagram = bytearray(heartbeat.encode(sent, KEY))
    datagram[at] ^= flip
    assert not heartbeat.verify(bytes(datagram), KEY)


@given(BEATS)
def test_another_key_does_not_verify(sent: Beat) -> None:
    assert not heartbeat.verify(heartbeat.encode(sent, KEY), b"x" * heartbeat.KEY_BYTES)


@given(st.binary(max_size=300))
def test_garbage_is_no_beat(datagram: bytes) -> None:
    if len(datagram) != heartbeat.DATAGRAM_BYTES or not datagram.startswith(heartbeat.MAGIC):
        assert heartbeat.peek(datagram) is None
    assert not heartbeat.verify(datagram, KEY)


def test_another_magic_is_no_beat() -> None:
    sent = Beat(1, b"b" * 16, 2, 3, 4, 0.5, 6, 7, 0.25)
    assert heartbeat.peek(b"MHB2" + heartbeat.encode(sent, KEY)[4:]) is None


@pytest.mark.parametrize(
    "beyond",
    [
        {"row": 1 << 16},
        {"rss": 1 << 47},
        {"rss": (1 << 64) - 1},
        {"available": 1 << 47},
        {"counter": 1 << 63},
        {"turns": 1 << 63},
        {"running": (1 << 20) + 1},
        *({name: value} for name in ("cpu", "load") for value in (*ODD, 1.1e6)),
    ],
)
def test_a_figure_out_of_bounds_is_no_beat(beyond: dict[str, Any]) -> None:
    sent = replace(Beat(1, b"b" * 16, 2, 3, 4, 0.5, 6, 7, 0.25), **beyond)
    assert heartbeat.peek(heartbeat.encode(sent, KEY)) is None


def test_the_layout_is_the_documented_one() -> None:
    datagram = heartbeat.encode(Beat(1, bytes(range(16)), 2, 3, 4, 0.5, 6, 7, math.inf), KEY)
    at = struct.unpack_from
    assert datagram[:4] == b"MHB1"
    assert datagram[8:24] == bytes(range(16))
    assert at("<I", datagram, 4) == (1,)
    assert at("<QQQ", datagram, 24) == (2, 3, 4)
    assert at("<d", datagram, 48) == (0.5,)
    assert at("<QQ", datagram, 56) == (6, 7)
    assert at("<d", datagram, 72) == (math.inf,)
