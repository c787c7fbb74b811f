"""`multiprocessing.heap`, whose `BufferWrapper` is memory that spans hosts."""

from __future__ import annotations

import multiprocessing.heap
from typing import Any

from manyhands.multiprocessing._memory.blocks import Block


class BufferWrapper(multiprocessing.heap.BufferWrapper):
    """Memory that processes share, as single bytes.

    Args:
        size: in bytes.

    Raises:
        ValueError: the size is negative.
        OverflowError: there is no such size.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size:n} out of range")
        self._block = Block.new(size, 1)

    def create_memoryview(self) -> memoryview:
        """Return the memory."""
        return self._block.create_memoryview()


def __getattr__(name: str) -> Any:
    return getattr(multiprocessing.heap, name)
