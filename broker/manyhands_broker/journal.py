"""What the broker writes down before it says anything.

The loop appends the records of a whole drain, commits once, and only then sends. `MemoryJournal` keeps
them as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from manyhands_broker.core.records import Record


class Journal(Protocol):
    """Facts in the order in which they happened."""

    def append(self, record: Record) -> None:
        """Add a record to the open transaction."""

    def commit(self) -> None:
        """Make everything appended so far survive whatever the journal's kind survives."""

    def load(self) -> Iterable[Record]:
        """Every committed record, oldest first."""

    def close(self) -> None:
        """Let go of files and connections. What was not committed is lost."""


class MemoryJournal:
    """A journal that survives nothing, of bounded size."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._open: list[Record] = []
        self._committed: list[Record] = []

    def append(self, record: Record) -> None:
        """Add a record to the open transaction."""
        self._open.append(record)

    def commit(self) -> None:
        """Keep what is open; the oldest records beyond the limit go."""
        self._committed += self._open
        self._open.clear()
        if len(self._committed) > 2 * self._limit:
            del self._committed[: -self._limit]

    def load(self) -> Iterable[Record]:
        """Every committed record that was kept, oldest first."""
        return list(self._committed)

    def close(self) -> None:
        """Forget what is open."""
        self._open.clear()
