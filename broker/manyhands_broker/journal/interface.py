"""What a journal does, and how it fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from manyhands_broker.core.records import Record, StoredJob
from manyhands_broker.core.store import Store, StoreFailed
from manyhands_shared.errors import ManyhandsError

#: Pieces of output that are kept of a job.
MAX_OUTPUT = 1_000


class JournalFull(ManyhandsError):
    """There is no room for what should be written. It waits in memory; `commit` may be tried again."""


class JournalBroken(StoreFailed):
    """The journal cannot be trusted any more: a failed write or flush, a damaged file.

    The broker stops. It never flushes again after a failed flush: the kernel may have dropped the
    pages and would report success.
    """


class Journal(Store, Protocol):
    """Facts, appended, committed together, read back by job."""

    def append(self, record: Record) -> None:
        """Add a record to the open transaction. Nothing is written before `commit`."""

    def commit(self) -> None:
        """Make everything appended so far survive whatever this kind of journal survives.

        Raises:
            JournalFull: no room; the transaction is still open, whole, and may be committed again.
            JournalBroken: stop.
        """

    def forget(self, job: str) -> None:
        """Delete a job that is over, at once, even while `commit` has no room.

        Raises:
            JournalFull: not even for this.
            JournalBroken: stop.
        """

    @property
    def working(self) -> bool:
        """Whether `work` has something to do."""

    def work(self) -> None:
        """Go on a little with a backup."""

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""

    def close(self) -> None:
        """Let go of files. What was not committed is lost."""
