"""What was used lately, bounded by number and by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, the one used last at the end. The newest always stays.

    Args:
        max_items: how many are kept.
        max_bytes: what they may weigh together.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._weights: dict[K, int] = {}
        self._nbytes = 0
        #: The values. To look into it does not count as use.
        self.values: OrderedDict[K, V] = OrderedDict()

    def use(self, key: K) -> V | None:
        """Return the value of `key`, now the one used last; `None` if it is not here."""
        value = self.values.get(key)
        if value is not None:
            self.values.move_to_end(key)
        return value

    def put(self, key: K, value: V, weight: int) -> list[V]:
        """Add or replace a value; return those that had to go for it.

        A signal handler that comes in between any two steps may call this too.
        """
        gone = []
        replaced = self.values.pop(key, None)
        if replaced is not None:
            gone.append(replaced)
            self._lighten(key)
        self.values[key] = value
        self._weights[key] = weight
        self._nbytes += weight
        while len(self.values) > 1 and (
            len(self.values) > self._max_items or self._nbytes > self._max_bytes
        ):
            oldest, unused = self.values.popitem(last=False)
            gone.append(unused)
            self._lighten(oldest)
        return gone

    def clear(self) -> list[V]:
        """Let go of everything; return it."""
        gone = list(self.values.values())
        self.values.clear()
        self._weights.clear()
        self._nbytes = 0
        return gone

    def _lighten(self, key: K) -> None:
        weight = self._weights.pop(key, 0)
        self._nbytes -= weight
