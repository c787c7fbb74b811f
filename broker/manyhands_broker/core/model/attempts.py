"""Attempts beside those in the columns of a job: second ones, and those that nodes bring back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from manyhands_broker.core.model.chunk import Piece
    from manyhands_broker.core.model.node import Node

#: Finished tasks, or batches of them, by whose durations a job's running ones are judged.
_MEASURED = 99


class Twin:
    """The other attempt of a task. Without a node it is over."""

    __slots__ = ("attempt", "node")

    def __init__(self, node: Node | None, attempt: int) -> None:
        self.node = node
        self.attempt = attempt


class Speculation:
    """What a job that asks for speculative execution keeps besides its columns."""

    __slots__ = ("given", "look_due", "seconds", "since", "twins")

    def __init__(self) -> None:
        #: Running tasks that may yet be run twice, and since when they run; the oldest first.
        self.since: dict[int, float] = {}
        #: What tasks took of late, in seconds each.
        self.seconds: deque[float] = deque(maxlen=_MEASURED)
        self.twins: dict[int, Twin] = {}
        #: Copies given out so far.
        self.given = 0
        #: Whether a look at what has become slow is due.
        self.look_due = False

    @property
    def copies(self) -> int:
        """Tasks that run twice at the moment."""
        return sum(twin.node is not None for twin in self.twins.values())

    @property
    def median(self) -> float | None:
        """What a task takes, in seconds; `None` before the first has ended."""
        return sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else None

    def forget(self, indices: Iterable[int]) -> None:
        """Drop the twins of tasks that have ended."""
        if self.twins:
            for index in indices:
                self.twins.pop(index, None)

    def renumber(self, piece: Piece) -> None:
        """Have the next attempts of tasks that go back to the queue above all that there were."""
        for offset, index in enumerate(piece.indices, piece.lo):
            twin = self.twins.pop(index, None)
            if twin is not None:
                attempts = piece.chunk.attempts
                attempts[offset] = max(attempts[offset], twin.attempt)


class Adoption(NamedTuple):
    """Queued tasks that a node runs already, as `attempt`."""

    piece: Piece
    node: Node
    attempt: int
