"""The last-seen table: shared memory between the heartbeat monitor and the broker's loop.

One row a node. The broker's loop writes the first two columns when a node joins; the monitor process
writes the others with each heartbeat that it believes. Every column is one aligned word or is written
before the word that makes it count, so neither side ever waits for the other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

from manyhands_shared.protocol.heartbeat import KEY_BYTES, Beat, peek, verify

ROWS = 8_192
NO_NODE = bytes(16)
#: Weight of the newest interval in the moving mean and variance.
_ALPHA = 0.1


class Row(ctypes.Structure):
    """A node's row. Times are seconds of the monotonic clock, sizes bytes."""

    _fields_ = (
        ("boot_id", ctypes.c_ubyte * 16),
        ("key", ctypes.c_ubyte * KEY_BYTES),
        ("counter", ctypes.c_uint64),
        ("beats", ctypes.c_uint64),
        ("arrived", ctypes.c_double),
        ("mean", ctypes.c_double),
        ("variance", ctypes.c_double),
        ("turns", ctypes.c_uint64),
        ("turned", ctypes.c_double),
        ("running", ctypes.c_uint64),
        ("cpu", ctypes.c_double),
        ("rss", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("load", ctypes.c_double),
    )


def new_table(rows: int = ROWS) -> Any:
    """A table of free rows, in shared memory that child processes inherit."""
    return RawArray(Row, rows)


def expect(
    table: Any, number: int, boot_id: bytes, key: bytes, interval: float, now: float
) -> None:
    """Expect heartbeats of this boot id, signed with this key, every `interval` seconds."""
    row = table[number]
    row.boot_id[:] = NO_NODE
    row.key[:] = key
    row.counter = row.beats = row.turns = 0
    row.arrived = row.turned = now
    row.mean, row.variance = interval, (interval / 2) ** 2
    row.boot_id[:] = boot_id


def forget(table: Any, number: int) -> None:
    """Free a row."""
    table[number].boot_id[:] = NO_NODE


def take(table: Any, datagram: bytes, now: float) -> Beat | None:
    """Enter a heartbeat, if it is one and comes from whom it says; otherwise `None`."""
    beat = peek(datagram)
    if beat is None or beat.row >= len(table):
        return None
    row = table[beat.row]
    if (
        beat.boot_id == NO_NODE
        or bytes(row.boot_id) != beat.boot_id
        or beat.counter <= row.counter
        or not verify(datagram, bytes(row.key))
    ):
        return None
    if row.beats:
        difference = now - row.arrived - row.mean
        row.mean += _ALPHA * difference
        row.variance = (1 - _ALPHA) * (row.variance + _ALPHA * difference**2)
    if beat.turns != row.turns:
        row.turned = now
    row.turns, row.running = beat.turns, beat.running
    row.cpu, row.rss, row.available, row.load = beat.cpu, beat.rss, beat.available, beat.load
    row.arrived = now
    row.counter = beat.counter
    row.beats += 1
    return beat


def figures_of(table: Any, clock: Callable[[], float]) -> Callable[[int], dict[str, Any]]:
    """A function from a row's number to what its node last said of itself."""

    def figures(number: int) -> dict[str, Any]:
        row = table[number]
        return {
            "beats": row.beats,
            "last_beat": clock() - row.arrived,
            "busy": row.running,
            "cpu": row.cpu,
            "rss": row.rss,
            "available": row.available,
            "load": row.load,
        }

    return figures
