"""What a journal does, and how it fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from manyhands_broker.core.records import Record
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.messages import Function, ResultGroup
from manyhands_shared.serial import Payload


class JournalFull(ManyhandsError):
    """There is no room for what should be written. Nothing of the open transaction was kept."""


class JournalBroken(ManyhandsError):
    """The journal cannot be trusted any more: a failed write or flush, a damaged file.

    The broker stops. It never flushes again after a failed flush: the kernel may have dropped the
    pages and would report success.
    """


@dataclass(slots=True)
class StoredJob:
    """A durable job as the journal has it."""

    id: str
    function: bytes
    options: dict[str, Any]
    submitted: float
    owner: str
    total: int = 0
    closed: bool = False
    marks: set[str] = field(default_factory=set)
    #: Tasks that have ended: index → status.
    ended: dict[int, int] = field(default_factory=dict)
    #: Index → the lowest attempt number that still counts, where that is above 1.
    floors: dict[int, int] = field(default_factory=dict)
    #: Set once the job is over.
    summary: dict[str, Any] | None = None


class StoredResults(NamedTuple):
    """Results in the order in which they were written; `position` rises."""

    position: int
    group: ResultGroup


class Journal(Protocol):
    """Facts, appended, committed together, read back by job."""

    def append(self, record: Record) -> None:
        """Add a record to the open transaction."""

    def commit(self) -> None:
        """Make everything appended so far survive whatever this kind of journal survives.

        Raises:
            JournalFull: no room; the transaction is still open and may be committed again.
            JournalBroken: stop.
        """

    def has_room(self, nbytes: int) -> bool:
        """Whether so many more bytes of submissions fit, with a reserve kept for results."""

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""

    def function(self, digest: bytes) -> Function | None:
        """A function that was kept."""

    def bodies(self, job: str, first: int, stop: int) -> list[Payload]:
        """The payloads of tasks `first` to `stop` (excluded)."""

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""

    def close(self) -> None:
        """Let go of files. What was not committed is lost."""
