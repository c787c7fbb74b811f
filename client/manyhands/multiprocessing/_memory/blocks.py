"""Blocks of shared memory, one for each object: small ones together in segments, large ones alone.

A block that was never pickled is used again. One that was is not, for other processes may have it.
"""

from __future__ import annotations

import os
import threading
import weakref
from multiprocessing import heap as _standard
from multiprocessing import util
from typing import Any

from manyhands.multiprocessing._memory import segments
from manyhands.multiprocessing._processes import membership
from manyhands_shared.coordination import pool_child
from manyhands_shared.coordination.memory.shape import BLOCK_ALIGN, begin_items, forget_items

#: Bytes of a segment of small blocks, and of the blocks in it: the rest says where items begin.
_HEAP_BYTES = 64 << 10
_DATA_BYTES = 58_240
#: Blocks from this size on have a segment of their own.
_LARGE_BYTES = 32 << 10


class _Arena:
    """What the standard library's heap takes for one of its arenas.

    Args:
        segment: that it is.
    """

    def __init__(self, segment: segments.Segment) -> None:
        self.segment = segment
        self.size = _DATA_BYTES


class _Heap(_standard.Heap):
    """The standard library's heap over our segments."""

    _alignment = BLOCK_ALIGN

    def _new_arena(self, size: int) -> tuple[_Arena, int, int]:
        del size
        arena = _Arena(segments.make(_HEAP_BYTES, [0, _DATA_BYTES]))
        self._arenas.append(arena)  # type: ignore[attr-defined]
        return arena, 0, _DATA_BYTES


class _Small:
    """The heaps of this process, by the secrets of the programs that it is in."""

    heaps: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()  # noqa: RUF012 - one for the process
    #: A heap that stays without a block. A pool's child keeps none: its next program is another.
    kept: Any = None
    lock = threading.Lock()


class Block:
    """The memory of one object, all zeros when it is new.

    Args:
        segment: that it is in.
        offset: where it is.
        size: its bytes.
    """

    def __init__(self, segment: segments.Segment, offset: int, size: int) -> None:
        self.segment, self.offset, self.size = segment, offset, size
        #: A list, for the finalizer looks at it: whether other processes may have it.
        self._shared: list[bool] = [False]

    @classmethod
    def new(cls, size: int, shape: Any) -> Block:
        """Return a new one.

        Args:
            size: in bytes.
            shape: of the object: where its items begin.

        Raises:
            OSError: the system does not give the memory.
        """
        if size >= _LARGE_BYTES:
            return cls(segments.make(size, shape), 0, size)
        heap = _small_heap()
        place = heap.malloc(max(size, 1))
        arena, start, _ = place
        block = cls(arena.segment, start, size)
        view = arena.segment.view
        begin_items(view, _DATA_BYTES, start, max(size, 1), shape)
        view[start : start + size] = bytes(size)
        util.Finalize(block, _free, args=(heap, place, block._shared, os.getpid()))
        return block

    def create_memoryview(self) -> memoryview:
        """Return the memory."""
        return self.segment.view[self.offset : self.offset + self.size]

    def __reduce__(self) -> tuple[Any, ...]:
        self._shared[0] = True
        return find, (self.segment.pass_on(), self.segment.key, self.offset, self.size)


def find(secret: bytes, key: bytes, offset: int, size: int) -> Block:
    """Return a block that another process of this program has pickled.

    Raises:
        ValueError: it is of another program, or is not there any more.
        SharedStateLost: it was lost with its host.
        OSError: there is no room for it (`ENOMEM`).
    """
    membership.belong(secret, "shared memory")
    program = membership.of(secret)
    block = Block(segments.find(program, key, "shared memory"), offset, size)
    block._shared[0] = True
    return block


def _small_heap() -> Any:
    secret = membership.secret()
    heap = _Small.heaps.get(secret)
    if heap is None:
        with _Small.lock:
            heap = _Small.heaps.get(secret)
            if heap is None:
                heap = _Small.heaps[secret] = _Heap(_DATA_BYTES)
        if not pool_child.agent_address:
            _Small.kept = heap
    return heap


def _free(heap: Any, place: tuple[_Arena, int, int], shared: list[bool], pid: int) -> None:
    if shared[0] or os.getpid() != pid:
        return
    arena, start, stop = place
    forget_items(arena.segment.view, _DATA_BYTES, start, stop - start)
    heap.free(place)


def _after_fork() -> None:
    _Small.heaps.clear()
    _Small.kept, _Small.lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
