"""A journal that survives nothing: the twin of the durable ones."""

from __future__ import annotations

from collections.abc import Iterable

from manyhands_broker.core import records as r
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import StoredResults
from manyhands_shared.messages import Function
from manyhands_shared.serial import Payload, total

#: Pieces of output that are kept of a job.
MAX_OUTPUT = 1_000


class MemoryJournal:
    """Keeps what was committed as long as the process lives. `limit` is its room in bytes."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self._limit = limit
        self._size = 0
        self._open: list[r.Record] = []
        self._jobs: dict[str, StoredJob] = {}
        self._functions: dict[bytes, Function] = {}
        self._bodies: dict[str, list[Payload]] = {}
        self._results: dict[str, list[StoredResults]] = {}
        self._output: dict[str, list[tuple[int, int, str]]] = {}
        self._position = 0

    def append(self, record: r.Record) -> None:
        """Add a record to the open transaction."""
        self._open.append(record)

    def commit(self) -> None:
        """Apply what is open."""
        for record in self._open:
            self._apply(record)
        self._open.clear()

    def rollback(self) -> None:
        """Lose what is open, as a crash would."""
        self._open.clear()

    def has_room(self, nbytes: int) -> bool:
        """Whether so many more bytes stay within the limit."""
        return self._size + nbytes <= self._limit

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""
        return list(self._jobs.values())

    def function(self, digest: bytes) -> Function | None:
        """A function that was kept."""
        return self._functions.get(digest)

    def bodies(self, job: str, first: int, stop: int) -> list[Payload]:
        """The payloads of tasks `first` to `stop` (excluded)."""
        return self._bodies.get(job, [])[first:stop]

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

    def output(self, job: str, limit: int) -> list[tuple[int, int, str]]:
        """The last (task, attempt, text) that the job's tasks printed, oldest first."""
        return self._output.get(job, [])[-limit:]

    def close(self) -> None:
        """Forget what is open."""
        self._open.clear()

    def _apply(self, record: r.Record) -> None:
        match record:
            case r.FunctionKept(function):
                self._functions[function.digest] = function
            case r.JobOpened(job, digest, options, submitted, owner):
                self._jobs[job] = StoredJob(job, digest, options, submitted, owner)
                self._bodies[job] = []
                self._results[job] = []
            case r.TasksTaken(job, first, bodies):
                gap = first - len(self._bodies[job])
                self._bodies[job] += [b""] * gap
                self._bodies[job] += bodies
                self._jobs[job].total = first + len(bodies)
                self._size += total(bodies)
            case r.JobClosed(job):
                self._jobs[job].closed = True
            case r.TasksEnded(group):
                self._position += 1
                self._results[group.job].append(StoredResults(self._position, group))
                self._jobs[group.job].ended.update(zip(group.indices, group.statuses, strict=True))
                self._size += total(group.bodies)
            case r.AttemptsStale(job, indices, floor):
                self._jobs[job].floors.update(dict.fromkeys(indices, floor))
            case r.JobMarked(job, mark):
                _mark(self._jobs[job], mark)
            case r.TaskPrinted(job, attempt, index, text):
                lines = self._output.setdefault(job, [])
                lines.append((index, attempt, text))
                del lines[:-MAX_OUTPUT]
            case r.JobEnded(job, summary):
                self._jobs[job].summary = summary
            case r.JobForgotten(job):
                self._size -= total(self._bodies.pop(job))
                self._size -= sum(total(stored.group.bodies) for stored in self._results.pop(job))
                self._output.pop(job, None)
                del self._jobs[job]


def _mark(job: StoredJob, mark: str) -> None:
    if mark == "resumed":
        job.marks.discard("paused")
    else:
        job.marks.add(mark)
