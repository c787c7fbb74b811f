"""A journal that survives nothing: the twin of the durable ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manyhands_broker.core import records as r
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import Damaged, StoredOutput, StoredResults
from manyhands_broker.journal.interface import MAX_OUTPUT
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.messages import Function


class MemoryJournal:
    """Keeps what was committed as long as the process lives. `limit` is its room in bytes."""

    is_lasting = False

    def __init__(self, limit: int = 1 << 30) -> None:
        self._limit = limit
        self._size = 0
        self._open: list[r.Record] = []
        self._jobs: dict[str, StoredJob] = {}
        self._functions: dict[bytes, Function] = {}
        self._bodies: dict[str, dict[int, Payload]] = {}
        self._results: dict[str, list[StoredResults]] = {}
        self._output: dict[str, list[StoredOutput]] = {}
        self._printed = 0
        self._histories: dict[str, dict[str, Any]] = {}
        self._position = 0

    def append(self, record: r.Record) -> None:
        """Add a record to the open transaction."""
        self._open.append(record)

    def commit(self) -> None:
        """Apply what is open."""
        for record in self._open:
            self._apply(record)
        self._open.clear()

    def forget(self, job: str) -> None:
        """Delete a job that is over, at once."""
        self._forget(job)

    @property
    def working(self) -> bool:
        """Whether there is a backup to go on with: never."""
        return False

    def work(self) -> None:
        """Nothing."""

    def backup(self, directory: str, *, begin: bool) -> dict[str, Any]:
        """Refuse: there is nothing on a disk."""
        del begin
        raise LookupError(f"no backup in {directory}: this broker was started without --journal")

    def rollback(self) -> None:
        """Lose what is open, as a crash would."""
        self._open.clear()

    def has_room(self, nbytes: int) -> bool:
        """Return whether `nbytes` more stay within the limit."""
        return self._size + nbytes <= self._limit

    def gone(self) -> str:
        """Nothing: there are no files."""
        return ""

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""
        return list(self._jobs.values())

    def function(self, digest: bytes) -> Function | None:
        """A function that was kept."""
        return self._functions.get(digest)

    def bodies(self, job: str, first: int, stop: int) -> list[Payload | Damaged]:
        """The payloads of tasks `first` to `stop` (excluded)."""
        taken = self._bodies.get(job, {})
        return [taken[index] for index in range(first, stop) if index in taken]

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""
        found: list[StoredResults] = []
        size = 0
        for stored in self._results.get(job, ()):
            if stored.position > after:
                found.append(stored)
                size += total(stored.group.bodies)
                if size >= limit:
                    break
        return found

    def last_position(self, job: str) -> int:
        """The position of the last committed results of a job; 0 if it has none."""
        results = self._results.get(job)
        return results[-1].position if results else 0

    def output(
        self, job: str, limit: int, *, after: int | None = None, task: int | None = None
    ) -> list[StoredOutput]:
        """What the job's tasks, or one of them, printed: the last, or the first behind `after`."""
        found = [
            one
            for one in self._output.get(job, [])
            if one.position > (after or 0) and task in (None, one.task)
        ]
        limit = max(0, limit)
        return found[max(0, len(found) - limit) :] if after is None else found[:limit]

    def history(self, job: str) -> dict[str, Any] | None:
        """What was remembered of a job that is over."""
        return self._histories.get(job)

    def close(self) -> None:
        """Forget what is open."""
        self._open.clear()

    def _apply(self, record: r.Record) -> None:
        match record:
            case r.FunctionStored(function):
                self._functions[function.digest] = function
            case r.JobOpened(job, digest, options, submitted, owner, _):
                self._jobs[job] = StoredJob(job, digest, options, submitted, owner)
                self._bodies[job] = {}
                self._results[job] = []
            case r.TasksTaken(job, first, bodies):
                self._bodies[job].update(enumerate(bodies, first))
                self._jobs[job].take(first, first + len(bodies))
                self._size += total(bodies)
            case r.JobClosed(job, _):
                self._jobs[job].closed = True
            case r.TasksEnded(group):
                self._position += 1
                self._results[group.job].append(StoredResults(self._position, group))
                self._jobs[group.job].ended.update(zip(group.indices, group.statuses, strict=True))
                self._size += total(group.bodies)
            case r.TasksStarted(job, indices, attempt):
                self._jobs[job].floors.update(dict.fromkeys(indices, attempt))
                self._jobs[job].started.update(indices)
            case r.AttemptsStale(job, indices, floor):
                self._jobs[job].floors.update(dict.fromkeys(indices, floor))
                self._jobs[job].started.difference_update(indices)
            case r.TaskTried(job, index, tries, story):
                self._jobs[job].tries[index] = tries
                self._jobs[job].stories[index] = story
            case r.JobMarked(job, mark):
                _mark(self._jobs[job], mark)
            case r.TaskPrinted(job, attempt, index, text):
                lines = self._output.setdefault(job, [])
                self._printed += 1
                lines.append(StoredOutput(self._printed, index, attempt, text))
                del lines[:-MAX_OUTPUT]
            case r.JobEnded(job, summary):
                ended = self._jobs[job]
                ended.summary = summary
                for details in (
                    *(ended.ended, ended.floors, ended.started),
                    *(ended.tries, ended.stories),
                ):
                    details.clear()
            case r.JobRemembered(job, history):
                self._histories[job] = history
            case r.JobForgotten(job):
                self._forget(job)

    def _forget(self, job: str) -> None:
        self._size -= total(list(self._bodies.pop(job).values()))
        self._size -= sum(total(stored.group.bodies) for stored in self._results.pop(job))
        self._output.pop(job, None)
        self._histories.pop(job, None)
        gone = set(_digests(self._jobs.pop(job)))
        for digest in gone.difference(*map(_digests, self._jobs.values())):
            self._functions.pop(digest, None)


def _digests(job: StoredJob) -> tuple[bytes, bytes]:
    return job.function, bytes.fromhex(job.options.get("bundle", ""))


def _mark(job: StoredJob, mark: str) -> None:
    if mark == "resumed":
        job.marks.discard("paused")
    else:
        job.marks.add(mark)
