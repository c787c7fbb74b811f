"""The tables of the SQLite journal, as forward migrations: entry n takes version n to n + 1.

Columns called ``sum`` are checksums (see `checksums`). What fills pages of its own stands last in its
row. So a damaged page of it leaves the rest of the row to be read.
"""

from __future__ import annotations

import functools
from typing import Any

import apsw

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE functions (
        digest BLOB PRIMARY KEY, name TEXT NOT NULL, sum INTEGER NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        function BLOB NOT NULL,
        options BLOB NOT NULL,
        submitted REAL NOT NULL,
        owner TEXT NOT NULL,
        first INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        closed INTEGER,
        paused INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        summary_sum INTEGER,
        summary BLOB
    );
    CREATE INDEX jobs_of_function ON jobs (function);
    CREATE TABLE batches (
        job INTEGER NOT NULL,
        first INTEGER NOT NULL,
        stop INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        bodies BLOB NOT NULL
    );
    CREATE UNIQUE INDEX batches_of_job ON batches (job, first, stop);
    CREATE TABLE results (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        head BLOB NOT NULL,
        bodies_sum INTEGER NOT NULL,
        bodies BLOB NOT NULL
    );
    CREATE INDEX results_of_job ON results (job, position);
    CREATE TABLE attempts (
        job INTEGER NOT NULL,
        task INTEGER NOT NULL,
        floor INTEGER NOT NULL,
        started INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        PRIMARY KEY (job, task)
    ) WITHOUT ROWID;
    CREATE TABLE tries (
        job INTEGER NOT NULL,
        task INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        story BLOB NOT NULL,
        PRIMARY KEY (job, task)
    ) WITHOUT ROWID;
    CREATE TABLE output (
        position INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        task INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX output_of_job ON output (job, position);
    CREATE TABLE histories (job INTEGER PRIMARY KEY, sum INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE files (job INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (name, job))
        WITHOUT ROWID;
    CREATE INDEX files_of_job ON files (job);
    """,
)


def prepare(db: apsw.Connection) -> None:
    """Bring the tables of a database to the present version, which stands in two places."""
    [[version]] = list(db.execute("PRAGMA user_version"))
    for number in range(version, len(MIGRATIONS)):
        db.execute("BEGIN IMMEDIATE")
        db.execute(MIGRATIONS[number])
        db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (number + 1,))
        db.execute("COMMIT")


def version_of(db: apsw.Connection) -> int:
    """The version of the tables; 0 of a new database.

    Raises:
        apsw.CorruptError: the two places do not agree.
    """
    [[version]] = list(db.execute("PRAGMA user_version"))
    if not list(db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'")):
        found = 0
    else:
        [[found]] = list(db.execute("SELECT max(value) FROM meta WHERE key = 'version'"))
    if version != (found or 0):
        raise apsw.CorruptError(f"its version is {version} in one place, {found} in another")
    return int(version)


def tables_of(db: apsw.Connection) -> list[tuple[Any, ...]]:
    """How all tables and indexes of a database are laid out, and where they begin."""
    texts = ("type", "name", "tbl_name", "sql")
    columns = ", ".join(f"CAST({name} AS BLOB)" for name in texts)  # damaged, they may be no text
    return list(db.execute(f"SELECT {columns}, rootpage FROM sqlite_schema ORDER BY rowid"))


@functools.cache
def usual_tables() -> list[tuple[Any, ...]]:
    """The tables of every sound journal."""
    db = apsw.Connection(":memory:")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    prepare(db)
    found = tables_of(db)
    db.close()
    return found
