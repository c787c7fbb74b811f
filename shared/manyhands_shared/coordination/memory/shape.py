"""The items of shared memory: what is written as one.

Two hosts may write neighbouring items, and neither undoes the other's. Of two that write the same item
one wins whole. A shape says where items begin. It is a plain value, which travels with a segment:

- ``n``: items of ``n`` bytes, one behind the other;
- ``[n, [0, …]]``: elements of ``n`` bytes, whose items begin at these offsets;
- ``[0, n]``: small objects in the first ``n`` bytes. Behind them is a bit for each of these bytes, set
  where an item begins.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Any, Protocol

from manyhands_shared.payloads.payload import Buffer

#: Offsets of one element; one that has more is one item.
MAX_OFFSETS = 4_096
#: Small objects begin at multiples of this.
BLOCK_ALIGN = 16


class Shape(Protocol):
    """Where the items of a segment begin."""

    #: The size of all items, if that is 1, 2, 4, 8 or 16 and they stand one behind the other; else 1.
    unit: int

    def begin(self, memory: Buffer, at: int) -> int:
        """Return where the item begins that a byte is of."""

    def end(self, memory: Buffer, at: int) -> int:
        """Return where the item ends that a byte is of; it may be beyond the memory."""


class _Uniform:
    def __init__(self, size: int) -> None:
        self._size = size
        self.unit = size if size in (1, 2, 4, 8, 16) else 1

    def begin(self, memory: Buffer, at: int) -> int:
        del memory
        return at - at % self._size

    def end(self, memory: Buffer, at: int) -> int:
        del memory
        return at - at % self._size + self._size


class _Elements:
    unit = 1

    def __init__(self, size: int, offsets: list[int]) -> None:
        self._size = size
        self._offsets = offsets

    def begin(self, memory: Buffer, at: int) -> int:
        del memory
        inside = at % self._size
        return at - inside + self._offsets[bisect_right(self._offsets, inside) - 1]

    def end(self, memory: Buffer, at: int) -> int:
        del memory
        inside = at % self._size
        place = bisect_right(self._offsets, inside)
        return at - inside + (*self._offsets, self._size)[place]


class _Blocks:
    unit = 1

    def __init__(self, size: int) -> None:
        self._size = size

    def begin(self, memory: Buffer, at: int) -> int:
        while 0 < at < self._size and not memory[self._size + (at >> 3)] >> (at & 7) & 1:
            at -= 1
        return at

    def end(self, memory: Buffer, at: int) -> int:
        at += 1
        while at < self._size and not memory[self._size + (at >> 3)] >> (at & 7) & 1:
            at += 1
        return at


def is_shape(value: Any, size: int) -> bool:
    """Return whether a value is the shape of a segment of `size` bytes."""
    if type(value) is int:
        return 0 < value <= size
    if type(value) is not list or len(value) != 2 or type(value[0]) is not int:
        return False
    first, second = value
    if first == 0:
        return type(second) is int and second > 0 and second % 8 == 0 and second * 9 // 8 <= size
    return (
        0 < first <= size
        and type(second) is list
        and 0 < len(second) <= MAX_OFFSETS
        and all(type(offset) is int for offset in second)
        and second[0] == 0
        and second[-1] < first
        and all(one < other for one, other in pairwise(second))
    )


def shape_of(value: Any) -> Shape:
    """Return the shape of a value that has passed `is_shape`."""
    if type(value) is int:
        return _Uniform(value)
    first, second = value
    return _Elements(first, second) if first else _Blocks(second)


def begin_items(memory: memoryview, data_size: int, at: int, size: int, shape: Any) -> None:
    """Note where the items of a small object begin, in the bits behind all small objects.

    Args:
        memory: the segment.
        data_size: of its shape.
        at: where the object is, a multiple of `BLOCK_ALIGN`.
        size: the object's.
        shape: of the object: ``n`` or ``[n, [0, …]]``.
    """
    bits = bytearray(-(-size // BLOCK_ALIGN) * BLOCK_ALIGN // 8)
    element, offsets = (shape, [0]) if type(shape) is int else shape
    for begin in range(0, size, element):
        for offset in offsets:
            bits[(begin + offset) >> 3] |= 1 << ((begin + offset) & 7)
    place = data_size + at // 8
    memory[place : place + len(bits)] = bits
    behind = at + len(bits) * 8
    if behind < data_size:
        # What is behind it is not of its last item.
        memory[data_size + (behind >> 3)] |= 1


def forget_items(memory: memoryview, data_size: int, at: int, size: int) -> None:
    """Forget the items of a small object that is there no more."""
    count = -(-size // BLOCK_ALIGN) * BLOCK_ALIGN // 8
    place = data_size + at // 8
    memory[place : place + count] = b"\1" + bytes(count - 1)
