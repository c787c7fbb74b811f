"""A bounded cache of functions, evicting the one used longest ago.

The node keeps a copy of each child's cache without the values. It makes the same calls in the same
order, so it always knows which functions that child still has.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FunctionCache(Generic[T]):
    """Functions by digest, bounded by the bytes of their payloads. The newest always stays."""

    __slots__ = ("_bytes", "_entries", "_limit")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[T, int]] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    def get(self, digest: bytes) -> T:
        """The value for `digest`, which now counts as used last.

        Raises:
            KeyError: it is not here.
        """
        self._entries.move_to_end(digest)
        return self._entries[digest][0]

    def put(self, digest: bytes, value: T, nbytes: int) -> None:
        """Add or replace a value whose payload has `nbytes` bytes, evicting what is too much."""
        self._drop(digest)
        self._entries[digest] = (value, nbytes)
        self._bytes += nbytes
        while self._bytes > self._limit and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= entry[1]
