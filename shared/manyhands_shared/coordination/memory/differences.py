"""What differs between two memories, as ranges of whole items; and ranges as they travel."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

from manyhands_shared.coordination.memory.shape import Shape
from manyhands_shared.payloads.payload import Buffer, Payload

Range = tuple[int, int]

#: Memory is compared in blocks of this size.
BLOCK_BYTES = 64 << 10
PAGE_BYTES = 4_096
#: Up to here a segment has small grains.
SMALL_BYTES = 64 << 10
_SMALL_GRAIN, _GRAIN = 64, 4_096
_RANGE = struct.Struct("<QI")
_CHANGED = re.compile(rb"[^\0]+")


def bytes_of(payload: Payload) -> memoryview:
    """Return what is in a payload, as bytes."""
    if isinstance(payload, tuple):
        payload = payload[0] if len(payload) == 1 else b"".join(payload)
    return memoryview(payload).cast("B")


def grain_size(size: int) -> int:
    """Return the size of what the broker keeps a clock of, in a segment of `size` bytes."""
    return _SMALL_GRAIN if size <= SMALL_BYTES else _GRAIN


def differing(new: Buffer, old: Buffer, unit: int) -> Iterator[Range]:
    """Yield the ranges in which two equally long memories differ, in whole units from their beginning.

    A unit is 1, 2, 4, 8 or 16 bytes, and the length a multiple of it.
    """
    size = len(new)
    both = int.from_bytes(new, "little") ^ int.from_bytes(old, "little")
    if not both:
        return
    width = unit
    while width > 1:
        # In the end the first byte of each unit says whether anything in the unit differs.
        width //= 2
        both |= both >> 8 * width
    for found in _CHANGED.finditer(both.to_bytes(size, "little")[::unit]):
        yield found.start() * unit, found.end() * unit


def whole_items(memory: Buffer, shape: Shape, ranges: Iterable[Range]) -> Iterator[Range]:
    """Widen ranges, which stand in order, to whole items of a memory; join those that touch."""
    begin = end = -1
    for first, behind in ranges:
        if behind <= end:
            continue
        start = shape.begin(memory, first)
        stop = min(shape.end(memory, behind - 1), len(memory))
        if start <= end:
            end = max(end, stop)
            continue
        if end >= 0:
            yield begin, end
        begin, end = start, stop
    if end >= 0:
        yield begin, end


def items(memory: Buffer, shape: Shape, within: Range) -> Iterator[Range]:
    """Yield each item of a range that begins and ends with one."""
    at, end = within
    while at < end:
        behind = min(shape.end(memory, at), end)
        yield at, behind
        at = behind


def pack_ranges(ranges: Iterable[Range]) -> bytes:
    """Return ranges as they travel."""
    return b"".join(_RANGE.pack(begin, end - begin) for begin, end in ranges)


def unpack_ranges(packed: bytes) -> Iterator[Range]:
    """Yield the ranges that were packed."""
    for at, size in _RANGE.iter_unpack(packed):
        yield at, at + size
