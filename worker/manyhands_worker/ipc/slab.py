"""Result slabs: one preallocated `RawArray` per child, through which large results reach the node.

A slab is a ring. The child writes *blocks*, the node sends from them without a copy and frees each
when the broker has acknowledged what was in it. Positions rise for ever; a position modulo the
slab's size is the offset. A block never wraps around the end.

A block is a header of 64 bytes, then its buffers, each laid as in a segment (`shm.segment`)::

    serial u64 | position u64 | payload bytes u64 | mark u64

The mark, written last of all, says that everything before it is there. The child never waits for
room: where there is none, the result goes through the pipe instead. A child's death ends its slab;
its successor gets a new one.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any

from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.processes import file_size
from manyhands_shared.shm.segment import ALIGN, cut, lay, span
from manyhands_worker.ipc.control_block import FREED

_HEADER = struct.Struct("<QQQQ")
_MARK = 0x6D68_736C_6162_6F6B  # differs from anything that a fresh or half-written page holds
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_STEP = 1 << 20

_SHARED_MEMORY = "/dev/shm"


class SlabError(Exception):
    """What a child says about its slab is not so."""


class _Step(ctypes.Structure):
    """What a slab is an array of: the interpreter makes room for as many arguments as it has items."""

    _fields_ = [("bytes", ctypes.c_ubyte * _STEP)]


class _Untouched(Sequence[int]):
    """An initializer of a given length which sets nothing.

    `RawArray(type, length)` writes zeros over every page: 64 MiB of memory for each child, whether
    it will ever return an array or not. What is behind it reads as zeros, and nothing relies on it.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        raise IndexError(index)

    def __iter__(self) -> Iterator[int]:
        return iter(())


def free_shared_memory() -> int:
    """Bytes that can still be had of shared memory."""
    if sys.platform != "linux":
        return 1 << 40  # files in a temporary directory; the system grows them as it can
    try:
        room = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def slab_size(wanted: int, slots: int) -> int:
    """Bytes for each of `slots` slabs: as `wanted`, but all of them in half of what is free.

    A multiple of 1 MiB; 0 if there is not even that. A slab is a file with a page more.
    """
    most = min(free_shared_memory() // 2 // slots, file_size.limit() - mmap.PAGESIZE)
    return min(wanted, most) // _STEP * _STEP


def small_slab(size: int, wanted: int) -> str:
    """Return what people should know of slabs that are smaller than wanted."""
    if not size:
        return "there is no shared memory for result slabs; large results take a slower way"
    return f"result slabs have {size >> 20} MiB instead of {wanted >> 20}: shared memory is scarce"


def new_slab(size: int) -> Any:
    """A shared array of `size` bytes, as `slab_size` gives it, without memory until written to.

    Raises:
        OSError: the system does not give it.
    """
    slab = RawArray(_Step, _Untouched(size // _STEP))
    # An array freed earlier may have left its pages behind.
    if sys.platform == "linux":
        start, length = _whole_pages(ctypes.addressof(slab), size)
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_REMOVE)
    return slab


def block_bytes(lengths: Sequence[int]) -> int:
    """Bytes of a block that holds buffers of these lengths."""
    return ALIGN + span(lengths)


class SlabWriter:
    """The child's side of its slab."""

    __slots__ = ("_address", "_control", "_head", "_populated", "_size", "_slab", "_view")

    def __init__(self, slab: Any, control: memoryview) -> None:
        self._slab = slab
        self._control = control
        self._size = 0 if slab is None else ctypes.sizeof(slab)
        self._view = _bytes_of(slab)
        self._address = 0 if slab is None else ctypes.addressof(slab)
        self._head = 0
        self._populated = 0

    def write(self, serial: int, parts: Sequence[memoryview]) -> int | None:
        """Copy flat buffers into a new block. Returns its position; None if there is no room."""
        lengths = [part.nbytes for part in parts]
        size = block_bytes(lengths)
        position = _place(self._head, size, self._size)
        if position is None or position + size - self._control[FREED] > self._size:
            return None
        offset = position % self._size
        if not self._populate(offset + size):
            return None
        mark = offset + 24
        self._view[mark : mark + 8] = bytes(8)
        lay(self._view[offset + ALIGN : offset + size], parts)
        _HEADER.pack_into(self._view, offset, serial, position, sum(lengths), 0)
        self._view[mark : mark + 8] = (_MARK ^ serial).to_bytes(8, "little")
        self._head = position + size
        return position

    def _populate(self, end: int) -> bool:
        """Have pages up to offset `end`, before a write could find that there are none (SIGBUS)."""
        if end <= self._populated or sys.platform != "linux":
            return True
        goal = min(self._size, -(-end // _STEP) * _STEP)
        # Outwards to whole pages: a few bytes of a neighbour are populated too, and unharmed.
        start = (self._address + self._populated) // mmap.PAGESIZE * mmap.PAGESIZE
        length = self._address + goal - start
        if _libc().madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_POPULATE_WRITE
        ) and (ctypes.get_errno() != errno.EINVAL or free_shared_memory() < 2 * length):
            return False
        self._populated = goal
        return True


class Block:
    """One result in a slab, on its way to the broker; `free` gives its room back."""

    __slots__ = ("_ledger", "end", "freed")

    def __init__(self, ledger: SlabLedger, end: int) -> None:
        self._ledger = ledger
        self.end = end
        self.freed = False

    def free(self) -> None:
        """Let the child write there again: the broker has the result."""
        self.freed = True
        self._ledger.advance()


class SlabLedger:
    """The node's side of a child's slab: which blocks are in use."""

    __slots__ = ("_blocks", "_control", "_head", "_size", "_view")

    def __init__(self, slab: Any, control: memoryview) -> None:
        self._control = control
        self._size = 0 if slab is None else ctypes.sizeof(slab)
        self._view = _bytes_of(slab).toreadonly()
        self._head = 0
        self._blocks: deque[Block] = deque()

    def take(
        self, first: int, last: int, position: int, lengths: Sequence[int]
    ) -> tuple[Block, tuple[Buffer, ...]]:
        """The block at `position` and views of its buffers.

        Raises:
            SlabError: it is not what the child says, or not a task of serials `first` to `last`.
        """
        size = block_bytes(lengths)
        if (
            min(lengths) < 0
            or position < self._head
            or position != _place(position, size, self._size)
            or position + size - self._control[FREED] > self._size
        ):
            raise SlabError(f"an impossible block at {position}")
        offset = position % self._size
        serial, written, payload, mark = _HEADER.unpack_from(self._view, offset)
        if (
            not first <= serial <= last
            or (written, payload) != (position, sum(lengths))
            or mark != _MARK ^ serial
        ):
            raise SlabError(f"an unfinished block at {position}")
        views = cut(self._view[offset + ALIGN : offset + size], lengths)
        block = Block(self, position + size)
        self._head = block.end
        self._blocks.append(block)
        return block, views

    def advance(self) -> None:
        """Give the child the room of all blocks before the first that is still in use."""
        blocks = self._blocks
        while blocks and blocks[0].freed:
            self._control[FREED] = blocks.popleft().end


def _bytes_of(slab: Any) -> memoryview:
    if slab is None:
        return memoryview(b"")
    return memoryview((ctypes.c_ubyte * ctypes.sizeof(slab)).from_buffer(slab)).cast("B")


def _place(head: int, size: int, ring: int) -> int | None:
    """Where a block of `size` bytes goes: at the head, or at the start if it fits no more."""
    if size > ring:
        return None
    left = ring - head % ring
    return head if size <= left else head + left


def _whole_pages(start: int, length: int) -> tuple[int, int]:
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    return first, (start + length) // mmap.PAGESIZE * mmap.PAGESIZE - first


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
