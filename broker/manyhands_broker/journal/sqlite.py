"""The durable journal: one SQLite file, one connection, one commit a drain.

Write-ahead log with ``synchronous=FULL``: a commit returns when its frames are on the disk. A torn tail
of the log (power loss in mid-commit) fails its checksums and is left out when the file is opened, so an
unacknowledged transaction vanishes whole. The file is locked for as long as it is open: two brokers
cannot share one.

Records wait in memory until `commit`. SQLite may roll a transaction back when the disk is full; with the
records at hand the whole of it can be written again.
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
from manyhands_broker.journal.files import PayloadFiles, sync_directory
from manyhands_broker.journal.interface import MAX_OUTPUT, JournalBroken, JournalFull
from manyhands_broker.journal.packing import unpack
from manyhands_broker.journal.schema import MIGRATIONS
from manyhands_broker.journal.writer import Writer
from manyhands_shared.messages import Function, ResultGroup
from manyhands_shared.serial import Payload

#: Space that submissions leave free, so that results of what was accepted can still be written.
RESERVE_BYTES = 64 << 20
#: Pages (of 4 KiB) in the log before they are moved into the database: one more flush each 16 MB.
CHECKPOINT_PAGES = 4_096
#: Freed pages that a commit gives back to the file system, at most.
VACUUM_PAGES = 4_096


class SqliteJournal:
    """A journal in `directory`, which is made if it is not there."""

    def __init__(
        self, directory: Path, *, reserve: int = RESERVE_BYTES, vfs: str | None = None
    ) -> None:
        """Open, migrate, prove that it can be written.

        Args:
            directory: Holds ``journal.db``, its log, and ``payloads/``.
            reserve: Bytes of the file system that submissions leave free.
            vfs: SQLite's file layer, by name; `None` is the operating system's.

        Raises:
            JournalBroken: it cannot be used; the text says why and what to do.
            JournalFull: there is no room to begin with.
        """
        self._directory = directory
        self._reserve = reserve
        self._open: list[r.Record] = []
        self._logged = 0
        self._failed = ""
        self._cached: tuple[int, list[Any]] = (0, [])
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            self._files = PayloadFiles(directory / "payloads")
            self._db = apsw.Connection(str(directory / "journal.db"), vfs=vfs)
        except (OSError, apsw.Error) as error:
            raise JournalBroken(f"cannot open the journal in {directory}: {error}") from None
        self._writer = Writer(self._db, self._files)
        try:
            with self._failures("open"):
                self._prepare()
        except BaseException:
            self.close()
            raise

    # Writing

    def append(self, record: r.Record) -> None:
        """Add a record to the open transaction."""
        self._open.append(record)

    def commit(self) -> None:
        """Write and flush the transaction."""
        if not self._open:
            return
        with self._failures("write to"):
            self._db.execute("BEGIN IMMEDIATE")
            for record in self._open:
                self._writer.write(record)
            self._files.sync()
            self._db.execute("COMMIT")
        self._open.clear()
        with self._failures("write to"):
            self._tidy()

    def has_room(self, nbytes: int) -> bool:
        """Whether the file system has so many bytes twice over (log and file), and the reserve."""
        space = os.statvfs(self._directory)
        need = 2 * nbytes + self._reserve - space.f_bavail * space.f_frsize
        return need < 0 or need < self._free_bytes()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._open.clear()
        with contextlib.suppress(apsw.Error):
            if self._failed:
                # To close cleanly would flush; see `JournalBroken`. The log is read at the next start.
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._db.close()

    # Reading

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""
        with self._failures("read"):
            numbers = self._rows("SELECT number FROM jobs ORDER BY number")
        for (number,) in numbers:
            with self._failures("read"):
                job = self._job(number)
            yield job

    def function(self, digest: bytes) -> Function | None:
        """A function that was kept."""
        with self._failures("read"):
            rows = self._rows("SELECT name, body FROM functions WHERE digest = ?", (digest,))
        return Function(digest, rows[0][0], [rows[0][1]]) if rows else None

    def bodies(self, job: str, first: int, stop: int) -> list[Payload]:
        """The payloads of tasks `first` to `stop` (excluded)."""
        with self._failures("read"):
            rows = self._rows(
                "SELECT rowid, first FROM batches"
                " WHERE job = ? AND first < ? AND stop > ? ORDER BY first",
                (self._writer.number(job), stop, first),
            )
            found: list[Payload] = []
            for row, start in rows:
                found += unpack(self._batch(row), self._files, max(first - start, 0), stop - start)
        return found

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""
        found: list[StoredResults] = []
        size = 0
        with self._failures("read"):
            for position, attempt, indices, statuses, nbytes, seconds, bodies in self._db.execute(
                "SELECT position, attempt, indices, statuses, size, seconds, bodies FROM results"
                " WHERE job = ? AND position > ? ORDER BY position",
                (self._writer.number(job), after),
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

    def last_position(self, job: str) -> int:
        """The position of the last committed results of a job; 0 if it has none."""
        with self._failures("read"):
            [[position]] = self._rows(
                "SELECT max(position) FROM results WHERE job = ?", (self._writer.number(job),)
            )
        return position or 0

    def output(self, job: str, limit: int) -> list[tuple[int, int, str]]:
        """The last (task, attempt, text) that the job's tasks printed, oldest first."""
        with self._failures("read"):
            rows = self._rows(
                "SELECT task, attempt, text FROM output WHERE job = ? ORDER BY position DESC LIMIT ?",
                (self._writer.number(job), max(0, min(limit, MAX_OUTPUT))),
            )
        return [(task, attempt, text) for task, attempt, text in reversed(rows)]

    # Inside

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -65536")
        # The log is moved into the database by `_tidy`, where a failure is seen.
        db.wal_autocheckpoint(0)
        db.set_wal_hook(self._count_log)
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

    def _count_log(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._logged = pages
        return apsw.SQLITE_OK

    def _tidy(self) -> None:
        """What may wait until a transaction is safe."""
        for name in self._writer.loose_files():
            self._files.remove(name)
        self._cached = (0, [])
        try:
            if self._writer.forgot:
                self._writer.forgot = False
                self._rows(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            if self._logged >= CHECKPOINT_PAGES:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            pass  # the log keeps what there is no room for in the database yet

    def _free_bytes(self) -> int:
        """Room within the database."""
        with self._failures("read"):
            [[pages]] = self._rows("PRAGMA freelist_count")
            [[size]] = self._rows("PRAGMA page_size")
        return int(pages * size)

    def _job(self, number: int) -> StoredJob:
        [[name, function, options, submitted, owner, closed, paused, cancelled, summary]] = (
            self._rows(
                "SELECT id, function, options, submitted, owner, closed, paused, cancelled, summary"
                " FROM jobs WHERE number = ?",
                (number,),
            )
        )
        job = StoredJob(name, function, msgpack.unpackb(options), submitted, owner)
        job.closed = bool(closed)
        job.marks = {mark for mark, on in (("paused", paused), ("cancelled", cancelled)) if on}
        for first, stop in self._db.execute(
            "SELECT first, stop FROM batches WHERE job = ? ORDER BY first", (number,)
        ):
            job.take(first, stop)
        if summary is not None:
            job.summary = msgpack.unpackb(summary)
            return job
        for indices, statuses in self._db.execute(
            "SELECT indices, statuses FROM results WHERE job = ?", (number,)
        ):
            job.ended.update(zip(msgpack.unpackb(indices), statuses, strict=True))
        for task, floor, started in self._db.execute(
            "SELECT task, floor, started FROM attempts WHERE job = ?", (number,)
        ):
            job.floors[task] = floor
            if started:
                job.started.add(task)
        return job

    def _batch(self, row: int) -> bytes:
        """The packed payloads of a row; the last is remembered, for it is often asked for in parts."""
        if self._cached[0] != row:
            self._cached = (
                row,
                self._rows("SELECT bodies FROM batches WHERE rowid = ?", (row,)),
            )
        data: bytes = self._cached[1][0][0]
        return data

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, arguments))

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """SQLite's errors as ours. After one that is not for lack of room nothing is tried again."""
        where = self._directory
        if self._failed:
            raise JournalBroken(self._failed)
        try:
            yield
        except (apsw.FullError, JournalFull):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalFull(
                f"the disk of the journal in {where} is full; free some space on it"
            ) from None
        except JournalBroken as error:
            self._failed = str(error)
        except apsw.BusyError:
            self._failed = (
                f"another broker has the journal in {where}; "
                "end it, or give this one another --journal"
            )
        except (apsw.CorruptError, apsw.NotADBError) as error:
            self._failed = (
                f"the journal in {where} is damaged ({error}); "
                "restore it, or move it away to start anew"
            )
        except (apsw.Error, OSError) as error:
            self._failed = f"cannot {doing} the journal in {where}: {error}"
        if self._failed:
            raise JournalBroken(self._failed)
