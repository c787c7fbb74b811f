"""The durable journal: one SQLite file, one connection, one commit a drain.

Write-ahead log with ``synchronous=FULL``: a commit returns when its frames are on the disk. A torn tail
of the log (power loss in mid-commit) fails its checksums and is left out when the file is opened, so an
unacknowledged transaction vanishes whole. The file is locked for as long as it is open: two brokers
cannot share one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgpack

from manyhands_broker.core import records as r
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import StoredResults
from manyhands_broker.journal.files import PayloadFiles
from manyhands_broker.journal.interface import JournalBroken, JournalFull
from manyhands_broker.journal.memory import MAX_OUTPUT
from manyhands_broker.journal.packing import pack, unpack
from manyhands_broker.journal.schema import MIGRATIONS
from manyhands_shared.messages import Function, ResultGroup
from manyhands_shared.serial import Payload, total

#: Space that submissions leave free, so that results of what was accepted can still be written.
RESERVE_BYTES = 64 << 20


class SqliteJournal:
    """A journal in `directory`, which is made if it is not there."""

    def __init__(self, directory: Path, *, reserve: int = RESERVE_BYTES) -> None:
        """Open, migrate, prove that it can be written.

        Raises:
            JournalBroken: it cannot be used; the text says why and what to do.
        """
        self._directory = directory
        self._reserve = reserve
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._files = PayloadFiles(directory / "payloads")
            self._db = apsw.Connection(str(directory / "journal.db"))
        except (OSError, apsw.Error) as error:
            raise JournalBroken(f"cannot open the journal in {directory}: {error}") from None
        self._open = False
        self._numbers: dict[str, int] = {}
        with self._failures("open"):
            self._prepare()

    # Writing

    def append(self, record: r.Record) -> None:
        """Add a record to the open transaction."""
        with self._failures("write to"):
            if not self._open:
                self._db.execute("BEGIN IMMEDIATE")
                self._open = True
            self._write(record)

    def commit(self) -> None:
        """Flush the transaction to the disk."""
        if not self._open:
            return
        self._files.sync()
        with self._failures("write to"):
            self._db.execute("COMMIT")
        self._open = False

    def has_room(self, nbytes: int) -> bool:
        """Whether the file system has so many bytes twice over (log and file), and the reserve."""
        space = os.statvfs(self._directory)
        return space.f_bavail * space.f_frsize > 2 * nbytes + self._reserve

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self._db.close()

    # Reading

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""
        with self._failures("read"):
            return list(self._jobs())

    def function(self, digest: bytes) -> Function | None:
        """A function that was kept."""
        with self._failures("read"):
            rows = self._rows("SELECT name, body FROM functions WHERE digest = ?", (digest,))
        return Function(digest, rows[0][0], [rows[0][1]]) if rows else None

    def bodies(self, job: str, first: int, stop: int) -> list[Payload]:
        """The payloads of tasks `first` to `stop` (excluded)."""
        with self._failures("read"):
            rows = self._rows(
                "SELECT first, bodies FROM batches"
                " WHERE job = ? AND first < ? AND stop > ? ORDER BY first",
                (self._number(job), stop, first),
            )
        found: list[Payload] = []
        for start, data in rows:
            part = unpack(data, self._files)
            found += part[max(first - start, 0) : stop - start]
        return found

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""
        found: list[StoredResults] = []
        size = 0
        with self._failures("read"):
            for position, attempt, indices, statuses, bodies, nbytes, seconds in self._db.execute(
                "SELECT position, attempt, indices, statuses, bodies, size, seconds FROM results"
                " WHERE job = ? AND position > ? ORDER BY position",
                (self._number(job), after),
            ):
                group = ResultGroup(
                    job,
                    attempt,
                    msgpack.unpackb(indices),
                    statuses,
                    unpack(bodies, self._files),
                    seconds,
                )
                found.append(StoredResults(position, group))
                size += nbytes
                if size >= limit:
                    break
        return found

    def output(self, job: str, limit: int) -> list[tuple[int, int, str]]:
        """The last (task, attempt, text) that the job's tasks printed, oldest first."""
        number = self._number(job)
        with self._failures("read"):
            rows = self._rows(
                "SELECT task, attempt, text FROM output WHERE job = ? ORDER BY position DESC LIMIT ?",
                (number, limit),
            )
        return [(task, attempt, text) for task, attempt, text in reversed(rows)]

    # Inside

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        [[version]] = self._rows("PRAGMA user_version")
        if version > len(MIGRATIONS):
            raise JournalBroken(
                f"the journal in {self._directory} was written by a newer manyhands; use that one"
            )
        for number in range(version, len(MIGRATIONS)):
            db.execute("BEGIN IMMEDIATE")
            db.execute(MIGRATIONS[number])
            db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        # The probe: a disk that cannot be written is found out now and not at the first result.
        db.execute(
            "INSERT INTO meta VALUES ('starts', 1)"
            " ON CONFLICT (key) DO UPDATE SET value = value + 1"
        )
        self._files.sweep({name for (name,) in self._rows("SELECT DISTINCT name FROM files")})

    def _write(self, record: r.Record) -> None:
        run = self._db.execute
        match record:
            case r.FunctionKept(function):
                run(
                    "INSERT OR IGNORE INTO functions VALUES (?, ?, ?)",
                    (function.digest, function.name, _whole(function.bodies[0])),
                )
            case r.JobOpened(job, function, options, submitted, owner):
                run(
                    "INSERT INTO jobs (id, function, options, submitted, owner)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (job, function, msgpack.packb(options), submitted, owner),
                )
                self._numbers[job] = self._db.last_insert_rowid()
            case r.TasksTaken(job, first, bodies):
                number = self._number(job)
                data = self._pack(number, bodies)
                run(
                    "INSERT INTO batches VALUES (?, ?, ?, ?)",
                    (number, first, first + len(bodies), data),
                )
            case r.JobClosed(job):
                run("UPDATE jobs SET closed = 1 WHERE number = ?", (self._number(job),))
            case r.TasksEnded(group):
                self._write_results(group)
            case r.AttemptsStale(job, indices, floor):
                number = self._number(job)
                self._db.executemany(
                    "INSERT OR REPLACE INTO floors VALUES (?, ?, ?)",
                    ((number, index, floor) for index in indices),
                )
            case r.JobMarked(job, mark):
                column = {
                    "paused": "paused = 1",
                    "resumed": "paused = 0",
                    "cancelled": "cancelled = 1",
                }
                run(f"UPDATE jobs SET {column[mark]} WHERE number = ?", (self._number(job),))
            case r.TaskPrinted(job, attempt, index, text):
                run(
                    "INSERT INTO output (job, task, attempt, text) VALUES (?, ?, ?, ?)",
                    (self._number(job), index, attempt, text),
                )
            case r.JobEnded(job, summary):
                number = self._number(job)
                run(
                    "UPDATE jobs SET summary = ? WHERE number = ?", (msgpack.packb(summary), number)
                )
                run(
                    "DELETE FROM output WHERE job = ?1 AND position <="
                    " (SELECT max(position) FROM output WHERE job = ?1) - ?2",
                    (number, MAX_OUTPUT),
                )
            case r.JobForgotten(job):
                self._forget(job)

    def _write_results(self, group: ResultGroup) -> None:
        number = self._number(group.job)
        self._db.execute(
            "INSERT INTO results (job, attempt, indices, statuses, bodies, size, seconds)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                group.attempt,
                msgpack.packb(group.indices),
                group.statuses,
                self._pack(number, group.bodies),
                total(group.bodies),
                group.seconds,
            ),
        )

    def _forget(self, job: str) -> None:
        number = self._number(job)
        names = self._rows(
            "SELECT name FROM files WHERE job = ?"
            " AND name NOT IN (SELECT name FROM files WHERE job <> ?)",
            (number, number),
        )
        for table in ("batches", "results", "floors", "files", "output"):
            self._db.execute(f"DELETE FROM {table} WHERE job = ?", (number,))
        self._db.execute("DELETE FROM jobs WHERE number = ?", (number,))
        self._db.execute("DELETE FROM functions WHERE digest NOT IN (SELECT function FROM jobs)")
        del self._numbers[job]
        for (name,) in names:
            self._files.remove(name)

    def _pack(self, number: int, bodies: list[Payload]) -> bytes:
        data, names = pack(bodies, self._files)
        for name in names:
            self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (number, name))
        return data

    def _jobs(self) -> Iterator[StoredJob]:
        for (
            number,
            name,
            function,
            options,
            submitted,
            owner,
            closed,
            *marks,
            summary,
        ) in self._rows(
            "SELECT number, id, function, options, submitted, owner, closed, paused, cancelled,"
            " summary FROM jobs ORDER BY number"
        ):
            self._numbers[name] = number
            [[stop]] = self._rows("SELECT max(stop) FROM batches WHERE job = ?", (number,))
            job = StoredJob(name, function, msgpack.unpackb(options), submitted, owner)
            job.total = stop or 0
            job.closed = bool(closed)
            job.marks = {
                mark for mark, on in zip(("paused", "cancelled"), marks, strict=True) if on
            }
            if summary is not None:
                job.summary = msgpack.unpackb(summary)
            else:
                for indices, statuses in self._db.execute(
                    "SELECT indices, statuses FROM results WHERE job = ?", (number,)
                ):
                    job.ended.update(zip(msgpack.unpackb(indices), statuses, strict=True))
                job.floors = dict(
                    self._rows("SELECT task, attempt FROM floors WHERE job = ?", (number,))
                )
            yield job

    def _number(self, job: str) -> int:
        """The row of a job; 0, which no row has, if there is no such job."""
        if job not in self._numbers:
            rows = self._rows("SELECT number FROM jobs WHERE id = ?", (job,))
            if not rows:
                return 0
            self._numbers[job] = rows[0][0]
        return self._numbers[job]

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, arguments))

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """SQLite's errors as ours, each with its cause."""
        where = self._directory
        try:
            yield
        except apsw.FullError:
            raise JournalFull(f"the disk of the journal in {where} is full") from None
        except apsw.BusyError:
            raise JournalBroken(
                f"another broker has the journal in {where}; end it, or give this one another --journal"
            ) from None
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise JournalBroken(
                f"the journal in {where} is damaged ({error}); restore it, or move it away to start anew"
            ) from None
        except apsw.Error as error:
            raise JournalBroken(f"cannot {doing} the journal in {where}: {error}") from None


def _whole(body: Payload) -> bytes:
    return body if isinstance(body, bytes) else b"".join(bytes(part) for part in body)
