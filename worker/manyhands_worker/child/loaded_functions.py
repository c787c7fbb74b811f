"""Functions as a child has them: as they came, and loaded once a task needs them."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import Any, Final

from manyhands_shared.payloads.by_value.class_resolution import Guests, World
from manyhands_shared.payloads.payload import Payload

NOT_LOADED: Final = object()
#: Classes that came with arguments alone.
_guests: Guests = OrderedDict()


class Loaded:
    """A function, or its payload and those of what it inherits, if no task has needed it yet."""

    __slots__ = ("counts", "payloads", "value", "world")

    def __init__(self, payloads: list[Payload], counts: list[int]) -> None:
        self.payloads = payloads
        self.counts = counts
        self.value: Any = NOT_LOADED
        self.world = World(_guests)


class Borrowing:
    """Loaded functions that hold stored values, which their payloads do not count.

    Those used longest ago are unloaded when there are too many: they can be loaded again.

    Args:
        limit: bytes of stored values that they may hold together; the newest always may.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, tuple[Loaded, int]] = OrderedDict()
        self._nbytes = 0
        self._let_go = 0

    def add(self, digest: bytes, loaded: Loaded, nbytes: int) -> None:
        """Note what a function holds that has just been loaded."""
        if not nbytes:
            loaded.payloads = []
            return
        self._nbytes += nbytes - self._entries.pop(digest, (None, 0))[1]
        self._entries[digest] = loaded, nbytes
        while self._nbytes > self._limit and len(self._entries) > 1:
            _, (oldest, size) = self._entries.popitem(last=False)
            oldest.value = NOT_LOADED
            oldest.world = World(_guests)
            self._nbytes -= size
            self._let_go += size
        if self._let_go > self._limit:
            # A function that knows itself is garbage that only the collector sees.
            self._let_go = 0
            gc.collect()
