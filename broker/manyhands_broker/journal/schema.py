"""The tables of the SQLite journal, as forward migrations: entry n takes version n to n + 1.

Columns called ``sum`` are checksums (see `checks`). What fills pages of its own stands last in its row,
so that a damaged page of it leaves the rest of the row to be read.
"""

from __future__ import annotations

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
    CREATE TABLE files (job INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (name, job))
        WITHOUT ROWID;
    CREATE INDEX files_of_job ON files (job);
    """,
)
