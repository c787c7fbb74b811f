"""Payloads: what the broker carries and never opens, and how large they are.

A payload has one of two forms:

- `bytes`: one pickle, protocol 5, everything in it (small values);
- a tuple of buffers: the pickle first, then its out-of-band buffers in order (PEP 574). So arrays
  travel as frames of their own and are never copied into a pickle.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Anything with the buffer protocol: bytes, memoryview, zmq.Frame.
Buffer = Any
Payload = bytes | tuple[Buffer, ...]

#: More out-of-band buffers than this go into the pickle: a frame costs more than a copy.
MAX_BUFFERS = 1024


def nbytes(payload: Payload) -> int:
    """Bytes in a payload, all its buffers together."""
    if isinstance(payload, tuple):
        return sum(memoryview(buffer).nbytes for buffer in payload)
    return len(payload)


def total(payloads: Collection[Payload]) -> int:
    """Bytes in all of `payloads`."""
    # Nearly always, and then no Python runs for each of them.
    if set(map(type, payloads)) <= {bytes}:
        return sum(map(len, payloads))
    return sum(map(nbytes, payloads))
