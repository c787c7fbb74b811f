"""The simulated disk: a journal whose commits are slow, fail, or never happen.

What was committed survives every crash of the broker; what was not, vanishes with it.
"""

from __future__ import annotations

from collections import Counter

from manyhands_broker.core.records import JobEnded, Record, TasksEnded
from manyhands_broker.journal import JournalBroken, MemoryJournal


class Disk(MemoryJournal):
    """A memory journal that outlives brokers."""

    def __init__(self) -> None:
        super().__init__()
        #: Seconds that a commit takes.
        self.slowness = 0.0
        #: Whether it refuses submissions, as a full disk does; whether it ever has.
        self.full = self.was_full = False
        #: What happens to the next commit: "", "fails", or "fails late" (it was written all the same).
        self.fault = ""
        #: How often each task of a durable job has ended, by (job, index).
        self.ended: Counter[tuple[str, int]] = Counter()
        #: Jobs that have ended, and how.
        self.states: dict[str, str] = {}

    def has_room(self, nbytes: int) -> bool:
        """Whether a submission may be taken."""
        self.was_full = self.was_full or self.full
        return not self.full

    def commit(self) -> None:
        """Write what is open.

        Raises:
            JournalBroken: the disk failed; whether anything was written is not known.
        """
        fault, self.fault = self.fault, ""
        if fault == "fails":
            self.rollback()
        for record in self._open:
            self._count(record)
        super().commit()
        if fault:
            raise JournalBroken("the disk failed")

    def _count(self, record: Record) -> None:
        if isinstance(record, TasksEnded):
            self.ended.update((record.group.job, index) for index in record.group.indices)
        elif isinstance(record, JobEnded):
            self.states[record.job] = str(record.summary["state"])
