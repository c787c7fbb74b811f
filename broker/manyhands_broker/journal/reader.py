"""What the SQLite journal gives back. What is damaged is told by name, and costs nothing beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import apsw
import msgpack

from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import Damaged, StoredOutput, StoredResults
from manyhands_broker.journal.checksums import check, of_values
from manyhands_broker.journal.files import PayloadFiles
from manyhands_broker.journal.interface import MAX_OUTPUT
from manyhands_broker.journal.packing import unpack
from manyhands_broker.journal.writer import Writer
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Function, ResultGroup, Status

log = logging.getLogger("manyhands.broker")

#: What SQLite says of a page that is damaged or cannot be read, and of a text that is none any more.
UNREADABLE = (apsw.CorruptError, apsw.NotADBError, apsw.IOError, UnicodeDecodeError)
_DAMAGED = Damaged("its row in the broker's journal is damaged")
#: Results of one job that are looked at one by one, once a page of them is damaged.
_CAREFUL = 10_000
#: Kinds of damage that are logged.
_TOLD = 1_000


class _Mismatch(Exception):
    """A row is not what its checksum says."""


class Reader:
    """Reads the rows that a `Writer` has written.

    Args:
        db: the journal's connection.
        files: its payload files.
        writer: knows the rows of jobs.
    """

    def __init__(self, db: apsw.Connection, files: PayloadFiles, writer: Writer) -> None:
        self._db = db
        self._files = files
        self._writer = writer
        self._number = writer.number
        self._told: set[str] = set()
        self._cached: tuple[int, bytes | Damaged] = (0, b"")

    def changed(self) -> None:
        """Rows may not be what they were."""
        self._cached = (0, b"")

    # Jobs

    def numbers(self) -> list[int]:
        """The rows of all jobs, oldest first."""
        return [number for (number,) in self._rows("SELECT number FROM jobs ORDER BY number")]

    def jobs(self, numbers: list[int]) -> Iterator[StoredJob]:
        """Those of these jobs whose name can be read."""
        for number in numbers:
            name = self._name(number)
            if name is None:
                self._tell(f"the name of job number {number} of the journal cannot be read")
                continue
            job = StoredJob(name, b"", {}, 0.0, "")
            try:
                self._fill(job, number)
            except (*UNREADABLE, _Mismatch, ValueError, TypeError) as error:
                job.damage = f"its record in the broker's journal is damaged ({error})"
            # Not looked up by its name later, through an index that may be the damaged part.
            self._writer.know(name, number)
            yield job

    def _name(self, number: int) -> str | None:
        for source in ("jobs", "jobs INDEXED BY sqlite_autoindex_jobs_1"):
            try:
                for (name,) in self._rows(
                    f"SELECT CAST(id AS BLOB) FROM {source} WHERE number = ?", number
                ):
                    return bytes(name).decode(errors="replace")
            except UNREADABLE:
                continue
        return None

    def _fill(self, job: StoredJob, number: int) -> None:
        [[summary_sum, summary]] = self._rows(
            "SELECT summary_sum, summary FROM jobs WHERE number = ?", number
        )
        if summary is not None:
            if check(summary, number) == summary_sum:
                job.summary = msgpack.unpackb(summary)
                return
            job.damage = "the record of how it ended is damaged in the broker's journal"
        [[sum_, closed, paused, cancelled, *row]] = self._rows(
            "SELECT sum, closed, paused, cancelled, id, function, options, submitted, owner, first"
            " FROM jobs WHERE number = ?",
            number,
        )
        self._fill_tasks(job, number, row[5] if type(row[5]) is int else 0, closed)
        if of_values(*row) != sum_:
            raise _Mismatch("its options are not what they were")
        _, job.function, options, job.submitted, job.owner, _ = row
        job.options = msgpack.unpackb(options)
        job.closed = closed is not None
        job.marks = {mark for mark, on in (("paused", paused), ("cancelled", cancelled)) if on}

    def _fill_tasks(self, job: StoredJob, number: int, first: int, closed: int | None) -> None:
        at = first
        for _, _, stop in self._spans("job = ?", number):
            # What is missing in between was here: `bodies` says so when it is asked for.
            if stop > at:
                job.take(at, stop)
                at = stop
        if closed is not None and closed > at:
            job.take(at, closed)
        for _, indices, statuses, _, _, _, _ in self._results(number, 0, bodies=False):
            job.ended.update(zip(indices, statuses, strict=True))
        for task, floor, started, sum_ in self._rows(
            "SELECT task, floor, started, sum FROM attempts WHERE job = ?", number
        ):
            if of_values(number, task, floor, started) != sum_:
                raise _Mismatch(f"the attempts of task {task} are not what they were")
            job.floors[task] = floor
            if started:
                job.started.add(task)
        for task, sum_, tries, story in self._rows(
            "SELECT task, sum, tries, story FROM tries WHERE job = ?", number
        ):
            if of_values(number, task, tries, story) != sum_:
                raise _Mismatch(f"the tries of task {task} are not what they were")
            job.tries[task] = tries
            job.stories[task] = tuple(msgpack.unpackb(story))

    # Payloads

    def function(self, digest: bytes) -> Function | Damaged | None:
        """A function that was kept."""
        try:
            rows = self._rows("SELECT name, sum, body FROM functions WHERE digest = ?", digest)
        except UNREADABLE as error:
            rows = [("", -1, b"")]
            self._tell(f"a function of the journal cannot be read: {error}")
        if not rows:
            return None
        [[name, sum_, body]] = rows
        if type(body) is not bytes or check(body, name) != sum_:
            self._writer.damaged.add(digest)
            return Damaged(
                f"its function {name or digest.hex()} is damaged in the broker's journal"
            )
        return Function(digest, name, [body])

    def bodies(self, job: str, first: int, stop: int) -> list[Payload | Damaged]:
        """The payloads of tasks `first` to `stop` (excluded), as far as there are such tasks."""
        found: list[Payload | Damaged] = []
        at = first
        try:
            number = self._number(job)
            spans = self._spans("job = ? AND first < ? AND stop > ?", number, stop, first)
            for row, start, end in spans:
                # Each payload keeps its place, whatever a damaged index says of its neighbours.
                lo, hi = max(at, start), min(stop, end)
                if lo < hi:
                    part = self._of_batch(row, number, start, lo, hi)
                    found += [_DAMAGED] * (lo - at)
                    found += part if len(part) == hi - lo else [_DAMAGED] * (hi - lo)
                    at = hi
        except UNREADABLE as error:
            self._tell(f"tasks of job {job} cannot be read from the journal: {error}")
            found += [_DAMAGED] * (stop - at)
        return found

    def _spans(self, where: str, *arguments: Any) -> Iterator[tuple[int, int, int]]:
        """Rows of `batches`, with their first task and the one behind their last, as the index says.

        No checksum covers an index: what cannot be true is left out, the rest may still be wrong.
        """
        for row, start, end in self._rows(
            f"SELECT rowid, first, stop FROM batches WHERE {where} ORDER BY first", *arguments
        ):
            if type(start) is int and type(end) is int and 0 <= start < end:
                yield row, start, end

    def _of_batch(
        self, row: int, number: int, start: int, lo: int, hi: int
    ) -> list[Payload | Damaged]:
        """Payloads of a row; the last row is remembered, for it is often asked for in parts."""
        if self._cached[0] != row:
            self._cached = (row, self._batch(row, number, start))
        data = self._cached[1]
        if isinstance(data, Damaged):
            return [data] * (hi - lo)
        return unpack(data, self._files, lo - start, hi - start)

    def _batch(self, row: int, number: int, start: int) -> bytes | Damaged:
        try:
            for sum_, data in self._rows("SELECT sum, bodies FROM batches WHERE rowid = ?", row):
                if type(data) is bytes and check(data, number, start) == sum_:
                    return data
        except UNREADABLE:
            pass
        return _DAMAGED

    # Results

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""
        found: list[StoredResults] = []
        size = 0
        number = self._known(job)
        rows = self._results(number, after, bodies=True)
        for position, indices, statuses, attempt, nbytes, seconds, data in rows:
            if data is None:
                bodies: list[Payload | Damaged] = [_DAMAGED] * len(indices)
            else:
                bodies = unpack(data, self._files)
            group = _whole(job, attempt, indices, statuses, bodies, seconds)
            found.append(StoredResults(position, group))
            size += nbytes
            if size >= limit:
                break
        return found

    def _results(self, number: int, after: int, *, bodies: bool) -> Iterator[tuple[Any, ...]]:
        """Results whose heads are sound, with their packed bodies; `None` for bodies that are not."""
        for position, sum_, head, bodies_sum, data in self._result_rows(number, after, bodies):
            if type(head) is not bytes or check(head, number) != sum_:
                self._tell(
                    f"results at {position} of the journal are damaged: who they are of is lost"
                )
                continue
            attempt, indices, statuses, nbytes, seconds = msgpack.unpackb(head)
            if bodies and (type(data) is not bytes or check(data, number) != bodies_sum):
                data = None  # noqa: PLW2901 - as good as not there
            yield position, indices, statuses, attempt, nbytes, seconds, data

    def _result_rows(self, number: int, after: int, bodies: bool) -> Iterator[tuple[Any, ...]]:
        last = "bodies" if bodies else "NULL"
        columns = f"SELECT position, sum, head, bodies_sum, {last} FROM results"
        try:
            for row in self._db.execute(
                f"{columns} WHERE job = ? AND position > ? ORDER BY position", (number, after)
            ):
                # A damaged index may lead back: what was read is never read again.
                if type(row[0]) is int and row[0] > after:
                    after = row[0]
                    yield row
        except UNREADABLE as error:
            self._tell(f"results of the journal cannot be read: {error}")
        else:
            return
        try:
            positions = self._rows(
                "SELECT position FROM results INDEXED BY results_of_job"
                " WHERE job = ? AND position > ? ORDER BY position LIMIT ?",
                *(number, after, _CAREFUL),
            )
        except UNREADABLE:
            return
        for (position,) in positions:
            for wanted in (columns, columns.replace("bodies FROM", "NULL FROM")):
                try:
                    rows = self._rows(f"{wanted} WHERE position = ?", position)
                except UNREADABLE:
                    continue
                yield from rows
                break

    def last_position(self, job: str) -> int:
        """The position of the last committed results of a job; 0 if it has none."""
        try:
            [[position]] = self._rows(
                "SELECT max(position) FROM results WHERE job = ?", self._known(job)
            )
        except UNREADABLE:
            return 0
        return position or 0

    def output(
        self, job: str, limit: int, *, after: int | None = None, task: int | None = None
    ) -> list[StoredOutput]:
        """What the job's tasks, or one of them, printed: the last, or the first behind `after`."""
        number = self._known(job)
        order = "DESC" if after is None else "ASC"
        try:
            rows = self._rows(
                "SELECT position, task, attempt, CAST(text AS BLOB), sum FROM output"
                " WHERE job = ?1 AND position > ?2 AND (?3 IS NULL OR task = ?3)"
                f" ORDER BY position {order} LIMIT ?4",
                *(number, after or 0, task, max(0, min(limit, MAX_OUTPUT))),
            )
        except UNREADABLE as error:
            self._tell(f"what job {job} printed cannot be read from the journal: {error}")
            return []
        return [
            StoredOutput(position, index, attempt, bytes(text).decode(errors="replace"))
            for position, index, attempt, text, sum_ in (rows if order == "ASC" else rows[::-1])
            if check(text, number, index, attempt) == sum_
        ]

    def history(self, job: str) -> dict[str, Any] | None:
        """What was remembered of a job that is over; `None` if nothing was, or it is damaged."""
        number = self._known(job)
        try:
            for data, sum_ in self._rows("SELECT body, sum FROM histories WHERE job = ?", number):
                if check(data, number) == sum_:
                    history: dict[str, Any] = msgpack.unpackb(data)
                    return history
        except UNREADABLE as error:
            self._tell(f"the history of job {job} cannot be read from the journal: {error}")
        return None

    # Inside

    def _known(self, job: str) -> int:
        try:
            return self._number(job)
        except UNREADABLE as error:
            self._tell(f"the journal's list of jobs cannot be read: {error}")
            return 0

    def _rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, arguments))

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < _TOLD:
            self._told.add(text)
            log.error("%s", text)


def _whole(
    job: str,
    attempt: int,
    indices: list[int],
    statuses: bytes,
    bodies: list[Payload | Damaged],
    seconds: float,
) -> ResultGroup:
    """Results, those that are damaged as lost."""
    whole: list[Payload] = []
    sorts = bytearray(statuses)
    for place, body in enumerate(bodies):
        if isinstance(body, Damaged):
            sorts[place] = Status.LOST
            text = f"the result of task {indices[place]} of job {job} is lost: {body.reason}"
            whole.append(Failure("manyhands.TaskLost", text).encode())
        else:
            whole.append(body)
    return ResultGroup(job, attempt, indices, bytes(sorts), whole, seconds)
