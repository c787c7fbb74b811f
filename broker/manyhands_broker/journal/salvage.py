"""A new database out of what can be read of a damaged one.

Rows are taken one by one, those behind a damaged page too. A payload that cannot be read is left out of
its row, whose checksum then tells. A job whose record is gone keeps its name, from the index. Indexes
are made anew. The damaged file is kept beside the new one, under a name that says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import apsw

from manyhands_broker.journal import wal as write_ahead
from manyhands_broker.journal.files import sync_directory
from manyhands_broker.journal.packing import names
from manyhands_broker.journal.reader import UNREADABLE
from manyhands_broker.journal.schema import prepare, tables_of, usual_tables

#: Tables by rowid: what every row has in its own page, and what may fill others.
_TABLES = (
    ("functions", ("digest", "name", "sum"), "body"),
    (
        "jobs",
        (
            *("id", "function", "options", "submitted", "owner", "first", "sum"),
            *("closed", "paused", "cancelled", "summary_sum"),
        ),
        "summary",
    ),
    ("batches", ("job", "first", "stop", "sum"), "bodies"),
    ("results", ("job", "sum", "head", "bodies_sum"), "bodies"),
    ("histories", ("job", "sum"), "body"),
    ("output", ("job", "task", "attempt", "sum"), "text"),
)
#: Tables by key, which are read from both ends.
_KEYED = (
    ("meta", "key"),
    ("attempts", "job, task"),
    ("tries", "job, task"),
    ("files", "name, job"),
)
#: Rows behind a damaged page are looked for up to here, where nothing says how many there are.
_FAR = 1 << 20
#: Rows that are tried one by one behind a damaged page; then larger and larger steps are made.
_PATIENT = 500
_PAGE = 4_096
_UNREADABLE = (*UNREADABLE, apsw.SQLError)


def finish(directory: Path) -> None:
    """End a rebuilding that a crash has interrupted, and delete what it left."""
    database, rebuilt = directory / "journal.db", directory / "journal.db.rebuilt"
    if rebuilt.exists():
        if database.exists():
            rebuilt.unlink()
        else:
            _put_in_place(directory, directory / f"journal.db.damaged-{time.time_ns()}")
    for name in ("rebuilding", "patched", "patched-wal", "patched-shm"):
        (directory / f"journal.db.{name}").unlink(missing_ok=True)


def rebuild(directory: Path) -> Path | None:
    """Put a new database in the place of the damaged one, which no connection may have open.

    Returns:
        Where the damaged one is now; `None` if nothing of it could be read, and it is as it was.
    """
    draft = directory / "journal.db.rebuilding"
    draft.unlink(missing_ok=True)
    target = apsw.Connection(str(draft))
    try:
        target.execute("PRAGMA auto_vacuum = INCREMENTAL")
        target.execute("PRAGMA journal_mode = OFF")
        prepare(target)
        source = _open(directory / "journal.db", draft)
        patched = source.filename.endswith(".patched")
        try:
            with target:
                _copy_all(source, target)
        finally:
            source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            source.close()
        [[jobs]] = list(target.execute("SELECT count(*) FROM jobs"))
        nothing = patched and not jobs
    finally:
        target.close()
        for name in ("patched", "patched-wal", "patched-shm"):
            (directory / f"journal.db.{name}").unlink(missing_ok=True)
    if nothing:
        draft.unlink()
        return None
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(directory / "journal.db.rebuilt")
    sync_directory(directory)
    aside = directory / f"journal.db.damaged-{time.time_ns()}"
    (directory / "journal.db").replace(aside)
    _put_in_place(directory, aside)
    return aside


def _put_in_place(directory: Path, aside: Path) -> None:
    """The log goes with the damaged database: beside the new one it would be taken for its own."""
    with contextlib.suppress(FileNotFoundError):
        (directory / "journal.db-wal").replace(aside.with_name(f"{aside.name}-wal"))
    (directory / "journal.db-shm").unlink(missing_ok=True)
    sync_directory(directory)
    (directory / "journal.db.rebuilt").replace(directory / "journal.db")
    sync_directory(directory)


def _open(database: Path, template: Path) -> apsw.Connection:
    """The damaged database; a copy with a new first page, if its own is no first page any more."""
    source = apsw.Connection(str(database))
    try:
        source.execute("PRAGMA locking_mode = EXCLUSIVE")
        source.execute("PRAGMA cell_size_check = ON")
        if tables_of(source) == usual_tables():
            return source
    except _UNREADABLE:
        pass
    source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    source.close()
    copy = database.with_name("journal.db.patched")
    shutil.copyfile(database, copy)
    log = database.with_name("journal.db-wal")
    # Its first page may be the damaged one: beside the copy it would go before what is patched.
    write_ahead.apply(log, copy)
    _patch(copy, template)
    return apsw.Connection(str(copy))


def _patch(database: Path, template: Path) -> None:
    """Write the first page anew: in every journal it has the same tables, with the same roots."""
    page = bytearray(template.read_bytes()[:_PAGE])
    with database.open("r+b") as file:
        pages = file.seek(0, os.SEEK_END) // _PAGE
        page[18:20] = b"\x02\x02"  # with a write-ahead log
        struct.pack_into(">II", page, 24, 1, pages)
        struct.pack_into(">II", page, 32, 0, 0)  # no list of free pages
        struct.pack_into(">I", page, 92, 1)
        file.seek(0)
        file.write(page)


def _copy_all(source: apsw.Connection, target: apsw.Connection) -> None:
    for table, light, heavy in _TABLES:
        _copy(source, target, table, light, heavy)
    for table, key in _KEYED:
        _copy_keyed(source, target, table, key)
    with contextlib.suppress(*_UNREADABLE):
        for number, name in source.execute(
            "SELECT number, id FROM jobs INDEXED BY sqlite_autoindex_jobs_1"
        ):
            target.execute(
                "INSERT OR IGNORE INTO jobs"
                " (number, id, function, options, submitted, owner, first, sum)"
                " VALUES (?, ?, x'', x'', 0, '', 0, -1)",
                (number, name),
            )
    for table in ("batches", "results"):
        for job, data in target.execute(f"SELECT job, bodies FROM {table}"):
            if b"\x81\xa4file" in data:
                with contextlib.suppress(ValueError, TypeError):
                    for file in names(data):
                        target.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (job, file))


def _copy(
    source: apsw.Connection,
    target: apsw.Connection,
    table: str,
    light: tuple[str, ...],
    heavy: str,
) -> None:
    columns = ", ".join(light)
    marks = ", ".join("?" * (len(light) + 2))
    insert = f"INSERT OR IGNORE INTO {table} (rowid, {columns}, {heavy}) VALUES ({marks})"
    last, end, misses = 0, -1, 0
    while True:
        try:
            for rowid, *values in source.execute(
                f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid", (last,)
            ):
                last, misses = rowid, 0
                target.execute(insert, (rowid, *values, _heavy(source, table, heavy, rowid)))
        except _UNREADABLE:
            if end < 0:
                end = _end(source, table)
            misses += 1
            last += max(1, misses // _PATIENT)  # a page has far fewer rows than that
            if last > end:
                return
        else:
            return


def _heavy(source: apsw.Connection, table: str, column: str, rowid: int) -> Any:
    """What may fill pages of its own; empty if one of them is damaged."""
    try:
        [[value]] = list(source.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)))
    except (*_UNREADABLE, ValueError):
        return "" if column == "text" else b""
    return value


def _end(source: apsw.Connection, table: str) -> int:
    for question in (
        f"SELECT max(rowid) FROM {table}",
        f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
    ):
        with contextlib.suppress(*_UNREADABLE):
            for (end,) in source.execute(question):
                return int(end or 0)
    return _FAR


def _copy_keyed(source: apsw.Connection, target: apsw.Connection, table: str, key: str) -> None:
    for order in ("", " DESC"):
        ordered = ", ".join(f"{part}{order}" for part in key.split(", "))
        try:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY {ordered}"):
                marks = ", ".join("?" * len(row))
                target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
        except _UNREADABLE:
            continue
        else:
            return
