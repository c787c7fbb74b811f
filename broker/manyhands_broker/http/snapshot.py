"""The snapshot: figures that the broker's loop writes and the HTTP process reads, in shared memory.

Neither side waits for the other. The writer overwrites; a reader that catches it in the middle is told
so by a checksum and looks again. So the loop packs once a second, however many requests there are.
"""

from __future__ import annotations

import time
import zlib
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple

import msgpack

_BYTES = 1 << 16
_READ_ATTEMPTS = 100


class Pinned(NamedTuple):
    """What the snapshot holds, and when it was written, in seconds of the monotonic clock."""

    figures: dict[str, Any]
    at: float


class Snapshot:
    """Shared by the broker's process, which pins, and those it starts, which read."""

    def __init__(self) -> None:
        #: Length and checksum of what hangs there.
        self._head = RawArray("Q", 2)
        self._at = RawArray("d", 1)
        self._body = RawArray("B", _BYTES)

    def pin(self, figures: dict[str, Any], now: float) -> None:
        """Replace what hangs there by `figures`, plain values.

        Raises:
            ValueError: packed they are more than 64 KiB.
        """
        packed = msgpack.packb(figures)
        if len(packed) > _BYTES:
            raise ValueError(f"{len(packed)} bytes of figures do not fit into the snapshot")
        memoryview(self._body).cast("B")[: len(packed)] = packed
        self._head[0] = len(packed)
        self._head[1] = zlib.crc32(packed)
        self._at[0] = now

    def read(self) -> Pinned | None:
        """The latest figures; `None` before the first."""
        for _ in range(_READ_ATTEMPTS):
            length, checksum = self._head[:]
            if not length:
                return None
            packed = bytes(memoryview(self._body).cast("B")[:length])
            at = self._at[0]
            if zlib.crc32(packed) == checksum:
                return Pinned(msgpack.unpackb(packed), at)
            time.sleep(0)  # the writer needs microseconds
        return None
