"""The durable journal: one SQLite file, one connection, one commit a drain.

Write-ahead log with ``synchronous=FULL``: a commit returns when its frames are on the disk. A torn tail
of the log (power loss in mid-commit) fails its checksums and is left out when the file is opened. So an
unacknowledged transaction vanishes whole. The file is locked for as long as it is open: two brokers
cannot share one.

Records wait in memory until `commit`. SQLite may roll a transaction back when the disk is full; with the
records at hand the whole of it can be written again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw

from manyhands_broker import descriptor_reserve
from manyhands_broker.core import records as r
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import Damaged, StoredOutput, StoredResults
from manyhands_broker.journal import salvage
from manyhands_broker.journal import wal as write_ahead
from manyhands_broker.journal.backup import Backup
from manyhands_broker.journal.disk_space import Room
from manyhands_broker.journal.files import PayloadFiles, sync_directory
from manyhands_broker.journal.interface import JournalBroken, JournalFull
from manyhands_broker.journal.reader import Reader
from manyhands_broker.journal.schema import MIGRATIONS, prepare, tables_of, usual_tables, version_of
from manyhands_broker.journal.writer import Writer
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Function
from manyhands_shared.security.private_files import private

log = logging.getLogger("manyhands.broker")

#: Space that submissions leave free, so that results of what was accepted can still be written.
RESERVE_BYTES = 64 << 20
#: Pages (of 4 KiB) in the log before they are moved into the database: one more flush each 16 MB.
CHECKPOINT_PAGES = 4_096
#: Freed pages that a commit gives back to the file system, at most.
VACUUM_PAGES = 4_096
#: A database of up to this size is looked through for damage at the start. In a larger one, damage is
#: found when it is met.
CHECK_BYTES = 256 << 20
_DAMAGE = (apsw.CorruptError, apsw.NotADBError)


class SqliteJournal:
    """A journal in `directory`, which is made if it is not there."""

    is_lasting = True

    def __init__(
        self, directory: Path, *, reserve: int = RESERVE_BYTES, vfs: str | None = None
    ) -> None:
        """Open, migrate, repair what is damaged, prove that it can be written.

        Args:
            directory: Holds ``journal.db``, its log, and ``payloads/``.
            reserve: Bytes of the file system that submissions leave free.
            vfs: SQLite's file layer, by name; `None` is the operating system's.

        Raises:
            JournalBroken: it cannot be used; the text says why and what to do.
            JournalFull: there is no room to begin with.
        """
        self._directory = directory
        self._vfs = vfs
        self._open: list[r.Record] = []
        self._logged = 0
        self._failed = ""
        self._backup: Backup | None = None
        try:
            with private():
                directory.mkdir(parents=True, exist_ok=True)
                sync_directory(directory.parent)
                self._files = PayloadFiles(directory / "payloads")
                salvage.finish(directory)
                has_log = (directory / "journal.db-wal").exists()
                self._connect()
        except (OSError, apsw.Error) as error:
            raise JournalBroken(f"cannot open the journal in {directory}: {error}") from None
        self._room = Room(directory, reserve)
        try:
            with self._failures("open"):
                self._prepare(has_log=has_log)
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
            if gone := self._room.gone():
                raise JournalBroken(gone)
            try:
                self._write(self._open)
            except apsw.FullError:
                # What the log holds may have room in the database: then the log begins anew.
                self._rollback()
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self._write(self._open)
            except _DAMAGE as error:
                self._rollback()
                self._rebuild(str(error))
                self._write(self._open)
        self._open.clear()
        with self._failures("write to"):
            self._tidy()

    def forget(self, job: str) -> None:
        """Delete a job that is over, at once, with room that is kept for this alone."""
        with self._failures("write to"), self._room.given_up():
            self._write([r.JobForgotten(job)])
            self._open = [record for record in self._open if _job_of(record) != job]
            self._tidy()

    def backup(self, directory: str, *, begin: bool) -> dict[str, Any]:
        """Begin a whole copy in `directory`, or tell how far the one there is."""
        place, known = Path(directory), self._backup
        try:
            if begin and (known is None or not self.working):
                known = self._backup = Backup(self._db, self._files, place)
        except OSError as error:
            raise LookupError(f"cannot make a backup in {place}: {error}") from None
        if known is None or known.place != place:
            where = f" in {known.place}" if known is not None else ""
            raise LookupError(f"no backup in {place}: the last one is{where or ' none'}")
        if known.error:
            raise LookupError(known.error)
        return known.report

    @property
    def working(self) -> bool:
        """Whether there is a backup to go on with."""
        return self._backup is not None and not (self._backup.done or self._backup.error)

    def work(self) -> None:
        """Go on a little with a backup."""
        if self._backup is not None and self.working:
            self._backup.step()

    def has_room(self, nbytes: int) -> bool:
        """Return whether the file system has `nbytes` twice over (log and file), and the reserve."""
        if self._room.gone():
            return False
        short = self._room.short_of(2 * nbytes)
        return short < 0 or short < self._free_bytes()

    def gone(self) -> str:
        """Where the journal's files went, in a sentence; empty while they are where they were."""
        return self._room.gone()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._open.clear()
        self._end_backup()
        self._room.close()
        with contextlib.suppress(apsw.Error):
            if self._failed or self._room.gone():
                # To close cleanly would flush; see `JournalBroken`. The log is read at the next start.
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            else:
                with contextlib.suppress(apsw.FullError):
                    self._db.execute("UPDATE meta SET value = 0 WHERE key = 'open'")
            self._db.close()

    # Reading

    def jobs(self) -> Iterable[StoredJob]:
        """Every job that was not forgotten, oldest first."""
        with self._failures("read"):
            try:
                numbers = self._reader.numbers()
            except _DAMAGE as error:
                self._rebuild(str(error))
                numbers = self._reader.numbers()
        return self._reader.jobs(numbers)

    def function(self, digest: bytes) -> Function | Damaged | None:
        """A function that was kept."""
        with self._failures("read"):
            return self._reader.function(digest)

    def bodies(self, job: str, first: int, stop: int) -> list[Payload | Damaged]:
        """The payloads of tasks `first` to `stop` (excluded), as far as there are such tasks."""
        with self._failures("read"):
            return self._reader.bodies(job, first, stop)

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        """Committed results of a job behind position `after`: at least one, about `limit` bytes."""
        with self._failures("read"):
            return self._reader.results(job, after, limit)

    def last_position(self, job: str) -> int:
        """The position of the last committed results of a job; 0 if it has none."""
        with self._failures("read"):
            return self._reader.last_position(job)

    def output(
        self, job: str, limit: int, *, after: int | None = None, task: int | None = None
    ) -> list[StoredOutput]:
        """What the job's tasks, or one of them, printed: the last, or the first behind `after`."""
        with self._failures("read"):
            return self._reader.output(job, limit, after=after, task=task)

    def history(self, job: str) -> dict[str, Any] | None:
        """What was remembered of a job that is over; `None` if nothing was, or it is damaged."""
        with self._failures("read"):
            return self._reader.history(job)

    # Inside

    def _connect(self) -> None:
        with descriptor_reserve.reserve():
            self._db = apsw.Connection(str(self._directory / "journal.db"), vfs=self._vfs)
        self._writer = Writer(self._db, self._files)
        self._reader = Reader(self._db, self._files, self._writer)

    def _prepare(self, *, has_log: bool) -> None:
        try:
            self._configure()
            if has_log:
                self._mend_log()
            damage = self._damage()
        except (*_DAMAGE, apsw.SQLError, UnicodeDecodeError) as error:
            damage = str(error)
        if damage:
            self._rebuild(damage)
        elif not has_log and self._rows("SELECT 1 FROM meta WHERE key = 'open' AND value = 1"):
            log.error(
                "the journal in %s was copied without its log (journal.db-wal) while a broker used it. "
                "What was in the log is not here; use `manyhands backup`, or copy both",
                self._directory,
            )
        # The log may have room in its file for the probe.
        is_full = self._room.is_full
        try:
            # The probe: a disk that cannot be written is found out now and not at the first result.
            self._db.execute(
                "INSERT INTO meta VALUES ('starts', 1)"
                " ON CONFLICT (key) DO UPDATE SET value = value + 1"
            )
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('open', 1)")
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            is_full = True
        if is_full:
            log.error(
                "the disk of the journal in %s is full. What it holds can be read and forgotten. "
                "Nothing new is taken until some space is free",
                self._directory,
            )
        if not damage:
            self._files.sweep({name for (name,) in self._rows("SELECT DISTINCT name FROM files")})
        self._room.set_aside()

    def _configure(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA temp_store = MEMORY")  # later there may be no descriptor for a file
        with descriptor_reserve.reserve():
            version = version_of(db)  # opens the log, if there is one
        if db.readonly("main") and os.access(self._directory / "journal.db", os.W_OK):
            raise apsw.CorruptError("its format is one that cannot be written")
        if not version:  # later it would be written for nothing, for which there may be no room
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with descriptor_reserve.reserve():
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -65536")
        # The log is moved into the database by `_tidy`, where a failure is seen.
        db.wal_autocheckpoint(0)
        db.set_wal_hook(self._count_log)
        if version > len(MIGRATIONS):
            raise JournalBroken(
                f"the journal in {self._directory} was written by a newer manyhands; use that one"
            )
        prepare(db)
        if tables_of(db) != usual_tables():
            raise apsw.CorruptError("its list of tables is not what it was")

    def _mend_log(self) -> None:
        """Have transactions read that lie behind a damaged frame of the log."""
        try:
            valid, _ = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            return
        path = self._directory / "journal.db-wal"
        behind = write_ahead.commits_behind(path, max(0, valid))
        # A crash or a loss of power tears the last transaction, which was not acknowledged yet.
        if behind < 2:
            return
        log.error("%s is damaged: %d transactions lie behind the damage", path, behind)
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._db.close()
        write_ahead.reseal(path, max(0, valid))
        self._connect()
        self._configure()

    def _damage(self) -> str:
        """What a look through the database finds, its indexes included; nothing of a very large one."""
        if (self._directory / "journal.db").stat().st_size > CHECK_BYTES:
            return ""
        [[found], *_] = self._rows("PRAGMA integrity_check(1)")
        return "" if found == "ok" else " ".join(found.split())

    def _rebuild(self, damage: str) -> None:
        """Go on with a new database that has what can be read of this one."""
        where = self._directory
        log.error("the journal in %s is damaged (%s); what can be read is kept", where, damage)
        self._end_backup()
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._db.close()
        with descriptor_reserve.reserve():
            aside = salvage.rebuild(where)
        self._connect()
        if aside is None:
            raise apsw.CorruptError(damage)
        self._configure()
        self._room.set_aside()  # the database is another file now
        log.error("the damaged database is kept as %s; delete it when it is of no use", aside)

    def _end_backup(self) -> None:
        if self._backup is not None and self.working:
            self._backup.close()
            self._backup.error = f"the backup in {self._backup.place} was broken off"

    def _write(self, records: list[r.Record]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for record in records:
            self._writer.write(record)
        self._files.sync()
        self._db.execute("COMMIT")

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
            self._writer.recount()

    def _count_log(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._logged = pages
        return apsw.SQLITE_OK

    def _tidy(self) -> None:
        """What may wait until a transaction is safe."""
        if not self.working:  # a backup may want them
            for name in self._writer.loose_files():
                self._files.remove(name)
        self._reader.changed()
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

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, arguments))

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """SQLite's errors as ours. After one that is not for lack of room nothing is tried again."""
        where = self._directory
        if self._failed:
            raise JournalBroken(self._failed)
        try:
            with private():
                yield
        except JournalFull:
            self._rollback()
            raise
        except apsw.FullError:
            self._rollback()
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


def _job_of(record: r.Record) -> str:
    """The job that a record is about; empty for a function."""
    match record:
        case r.FunctionStored():
            return ""
        case r.TasksEnded(group):
            return group.job
        case _:
            return record.job
