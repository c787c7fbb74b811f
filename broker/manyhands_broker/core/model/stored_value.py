"""A stored value as the broker knows it: whose it is, who has it, and which tasks refer to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

#: A node; what is known of a value asks nothing of it but which one it is.
N = TypeVar("N", bound=Hashable)

#: Nodes that are remembered to have a value, or to get it; the oldest are forgotten.
MAX_PLACES = 64


class StoredValue(Generic[N]):
    """A value of a session.

    It leaves its `shelf` when no node has it or waits for it, and no task needs it.

    Args:
        key: its key, under which it stands on the shelf.
        shelf: all values of its session.
        size: bytes, as far as known.
        host_id: of the host where it lies; empty if it cannot be borrowed there.
        keeper: the node that has made it; None if the client has it.
        unused: called when no task needs it, if its client does not say when it is gone.
    """

    __slots__ = (
        "_shelf",
        "_unused",
        "asked_at",
        "holders",
        "host_id",
        "keeper",
        "key",
        "places",
        "size",
        "tasks",
        "waiting",
    )

    def __init__(
        self,
        key: bytes,
        shelf: dict[bytes, StoredValue[N]],
        size: int = 0,
        host_id: str = "",
        keeper: N | None = None,
        unused: Callable[[], None] | None = None,
    ) -> None:
        self.key = key
        self._unused = unused
        self.size = size
        #: On which host it can be borrowed.
        self.host_id = host_id
        #: The node that holds it, if it is a task's result.
        self.keeper = keeper
        self._shelf = shelf
        #: Who was sent it, and is told when it is gone; and who waits for it.
        self.holders: dict[N, None] = {}
        self.waiting: dict[N, None] = {}
        #: Where it is likely to be, or soon: nodes with tasks that refer to it, and those above.
        self.places: dict[N, None] = {}
        #: Unfinished tasks that refer to it.
        self.tasks = 0
        #: When its client was asked for it.
        self.asked_at = 0.0

    def is_at(self, node: N) -> bool:
        """Return whether a node is likely to have it, or to get it soon."""
        return node in self.places or node in self.holders or node in self.waiting

    def comes_to(self, node: N) -> None:
        """Note that a node has it, or will."""
        self.places.pop(node, None)
        self.places[node] = None
        if len(self.places) > MAX_PLACES:
            del self.places[next(iter(self.places))]

    def leaves(self, node: N) -> None:
        """Forget a node that is gone."""
        for nodes in (self.waiting, self.holders, self.places):
            nodes.pop(node, None)
        self.settle()

    def release(self) -> None:
        """Count a task that has ended."""
        self.tasks -= 1
        if not self.tasks:
            self.settle()
            if self._unused is not None:
                self._unused()

    def settle(self) -> None:
        """Leave the shelf if no node and no task needs the value."""
        needed = self.tasks or self.waiting or self.holders
        if not needed and self._shelf.get(self.key) is self:
            del self._shelf[self.key]
