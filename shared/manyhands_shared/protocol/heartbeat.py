"""The heartbeat datagram: one small signed UDP packet, sent by a node's heartbeat process.

Layout, little-endian, 112 bytes:

====== ===== ==========================================================================
offset bytes field
====== ===== ==========================================================================
0      4     magic, ``MHB1``
4      4     row: the node's row in the broker's last-seen table (u32)
8      16    boot id of the node process
24     8     counter, rising by at least one with each datagram (u64)
32     8     turns of the node's main loop so far (u64)
40     8     running tasks (u64)
48     8     CPU use of the node's processes, in cores (f64)
56     8     resident memory of the node's processes, bytes (u64)
64     8     memory available on the host, bytes (u64)
72     8     load average over one minute (f64)
80     32    HMAC-SHA256 of bytes 0 to 80 under the key that WorkerWelcome gave
====== ===== ==========================================================================

The broker answers nothing, so a spoofed source address gains nothing. A datagram whose row, boot
id, counter or signature does not fit is dropped and counted.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Annotated

from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.bounds import Bytes, Float, Int

MAGIC = b"MHB1"
_BODY = struct.Struct("<4sI16sQQQdQQd")
SIGNATURE_BYTES = 32
DATAGRAM_BYTES = _BODY.size + SIGNATURE_BYTES
KEY_BYTES = 32


#: Counters. Sizes: no machine has as much memory, and 65,536 of them can be added up.
Counter = Annotated[int, Int("counter", 0, (1 << 63) - 1)]
Memory = Annotated[int, Int("memory", 0, (1 << 47) - 1)]
Figure = Annotated[float, Float("figure", 0, 1e6)]


@dataclass(frozen=True, slots=True)
class Beat:
    """What one heartbeat says. Memory in bytes, CPU in cores."""

    row: Annotated[int, Int("row", 0, 65_535)]
    boot_id: Annotated[bytes, Bytes("id16", 16)]
    counter: Counter
    turns: Counter
    running: Annotated[int, Int("tasks", 0, 1 << 20)]
    cpu: Figure
    rss: Memory
    available: Memory
    load: Figure


def encode(beat: Beat, key: bytes) -> bytes:
    """The signed datagram."""
    body = _BODY.pack(
        MAGIC,
        beat.row,
        beat.boot_id,
        beat.counter,
        beat.turns,
        beat.running,
        beat.cpu,
        beat.rss,
        beat.available,
        beat.load,
    )
    return body + _sign(body, key)


def peek(datagram: bytes) -> Beat | None:
    """Parse a datagram without believing it; `None` if it cannot be one, or breaks a bound."""
    if len(datagram) != DATAGRAM_BYTES:
        return None
    magic, *fields = _BODY.unpack_from(datagram)
    if magic != MAGIC:
        return None
    beat = Beat(*fields)
    return beat if bounds.fits(Beat)(beat) else None


def verify(datagram: bytes, key: bytes) -> bool:
    """Whether the datagram was signed with `key` (compared in constant time)."""
    body, signature = datagram[: _BODY.size], datagram[_BODY.size :]
    return hmac.compare_digest(signature, _sign(body, key))


def _sign(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256)
