"""Records as rows of the SQLite journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apsw
import msgpack

from manyhands_broker.core import records as r
from manyhands_broker.journal.checksums import check, of_values
from manyhands_broker.journal.files import PayloadFiles
from manyhands_broker.journal.interface import MAX_OUTPUT
from manyhands_broker.journal.packing import pack
from manyhands_shared.payloads.payload import Payload, nbytes, total
from manyhands_shared.protocol.messages import Function, ResultGroup

#: What one row of payloads holds at most: rows are read whole, also for one task in them.
ROW_TASKS = 1_024
ROW_BYTES = 1 << 20

_MARKS = {"paused": "paused = 1", "resumed": "paused = 0", "cancelled": "cancelled = 1"}


class Writer:
    """Writes records within the transaction that is open on `db`."""

    def __init__(self, db: apsw.Connection, files: PayloadFiles) -> None:
        self._db = db
        self._files = files
        self._numbers: dict[str, int] = {}
        self._printed: Counter[int] = Counter()
        #: Files of forgotten jobs. They go after the commit: until then the jobs may come back.
        self._loose: set[str] = set()
        #: Functions that were found damaged: they are written anew when they come again.
        self.damaged: set[bytes] = set()
        #: Jobs of each bundle, as soon as that has mattered.
        self._users: Counter[bytes] | None = None
        #: Whether a job was forgotten lately, so that there may be pages to give back.
        self.forgot = False

    def number(self, job: str) -> int:
        """The row of a job; 0, which no row has, if there is no such job."""
        found = self._numbers.get(job)
        if found is None:
            rows = list(self._db.execute("SELECT number FROM jobs WHERE id = ?", (job,)))
            if not rows:
                return 0
            found = self._numbers[job] = rows[0][0]
        return found

    def know(self, job: str, number: int) -> None:
        """Take a job to have this row, whatever its name reads there."""
        self._numbers[job] = number

    def loose_files(self) -> Iterator[str]:
        """Names of files that nothing refers to since the last commit, each once."""
        while self._loose:
            name = self._loose.pop()
            if not list(self._db.execute("SELECT 1 FROM files WHERE name = ?", (name,))):
                yield name

    def write(self, record: r.Record) -> None:
        """Turn a record into rows."""
        run = self._db.execute
        match record:
            case r.TasksTaken(job, first, bodies):
                self._write_tasks(self.number(job), first, bodies)
            case r.TasksEnded(group):
                self._write_results(group)
            case r.FunctionStored(function):
                self._write_function(function)
            case r.JobOpened(job, function, options, submitted, owner, first):
                row = (job, function, msgpack.packb(options), submitted, owner, first)
                run(
                    "INSERT INTO jobs (id, function, options, submitted, owner, first, sum)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*row, of_values(*row)),
                )
                self._numbers[job] = self._db.last_insert_rowid()
                if self._users is not None and (bundle := bundle_of(row[2])) is not None:
                    self._users[bundle] += 1
            case r.JobClosed(job, tasks):
                run("UPDATE jobs SET closed = ? WHERE number = ?", (tasks, self.number(job)))
            case r.TasksStarted(job, indices, attempt):
                self._write_attempts(self.number(job), indices, attempt, started=1)
            case r.AttemptsStale(job, indices, floor):
                self._write_attempts(self.number(job), indices, floor, started=0)
            case r.TaskTried(job, index, tries, story):
                self._write_tries(self.number(job), index, tries, story)
            case r.JobMarked(job, mark):
                run(f"UPDATE jobs SET {_MARKS[mark]} WHERE number = ?", (self.number(job),))
            case r.TaskPrinted(job, attempt, index, text):
                self._write_output(self.number(job), index, attempt, text)
            case r.JobEnded(job, summary):
                self._end(self.number(job), summary)
            case r.JobRemembered(job, history):
                self._write_history(self.number(job), history)
            case r.JobForgotten(job):
                self._forget(job)

    def _write_tasks(self, number: int, first: int, bodies: list[Payload]) -> None:
        lo = 0
        for hi in _cuts(bodies):
            data = self._pack(number, bodies[lo:hi])
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)",
                (number, first + lo, first + hi, check(data, number, first + lo), data),
            )
            lo = hi

    def _write_results(self, group: ResultGroup) -> None:
        number = self.number(group.job)
        head = msgpack.packb(
            [group.attempt, group.indices, group.statuses, total(group.bodies), group.seconds]
        )
        data = self._pack(number, group.bodies)
        self._db.execute(
            "INSERT INTO results (job, sum, head, bodies_sum, bodies) VALUES (?, ?, ?, ?, ?)",
            (number, check(head, number), head, check(data, number), data),
        )

    def _write_attempts(self, number: int, indices: list[int], floor: int, *, started: int) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?)",
            [
                (number, index, floor, started, of_values(number, index, floor, started))
                for index in indices
            ],
        )

    def _write_tries(self, number: int, index: int, tries: int, story: tuple[str, ...]) -> None:
        lines = msgpack.packb(story, unicode_errors="replace")
        self._db.execute(
            "INSERT OR REPLACE INTO tries VALUES (?, ?, ?, ?, ?)",
            (number, index, of_values(number, index, tries, lines), tries, lines),
        )

    def _write_function(self, function: Function) -> None:
        body = _whole(function.bodies[0])
        if function.digest in self.damaged:
            self.damaged.discard(function.digest)
            self._db.execute("DELETE FROM functions WHERE digest = ?", (function.digest,))
        self._db.execute(
            "INSERT OR IGNORE INTO functions VALUES (?, ?, ?, ?)",
            (function.digest, function.name, check(body, function.name), body),
        )

    def _write_output(self, number: int, index: int, attempt: int, text: str) -> None:
        self._db.execute(
            "INSERT INTO output (job, task, attempt, sum, text) VALUES (?, ?, ?, ?, ?)",
            (number, index, attempt, check(text.encode(), number, index, attempt), text),
        )
        self._printed[number] += 1
        if self._printed[number] >= MAX_OUTPUT:
            self._trim(number)

    def _trim(self, number: int) -> None:
        """Keep the last of a job's output."""
        del self._printed[number]
        self._db.execute(
            "DELETE FROM output WHERE job = ?1 AND position <= (SELECT position FROM output"
            " WHERE job = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
            (number, MAX_OUTPUT),
        )

    def _end(self, number: int, summary: dict[str, Any]) -> None:
        run = self._db.execute
        data = msgpack.packb(summary)
        run(
            "UPDATE jobs SET summary = ?, summary_sum = ? WHERE number = ?",
            (data, check(data, number), number),
        )
        run("DELETE FROM attempts WHERE job = ?", (number,))
        run("DELETE FROM tries WHERE job = ?", (number,))
        self._trim(number)

    def _write_history(self, number: int, history: dict[str, Any]) -> None:
        data = msgpack.packb(history, unicode_errors="replace")
        if number:
            self._db.execute(
                "INSERT OR REPLACE INTO histories VALUES (?, ?, ?)",
                (number, check(data, number), data),
            )

    def _forget(self, job: str) -> None:
        run, number = self._db.execute, self.number(job)
        if not number:
            return  # its very beginning was not written yet
        self._loose.update(
            name for (name,) in run("SELECT name FROM files WHERE job = ?", (number,))
        )
        users = self._bundle_users()
        [[function, options]] = list(
            run("SELECT function, options FROM jobs WHERE number = ?", (number,))
        )
        unused = {function}
        if (bundle := bundle_of(options)) is not None:
            unused.add(bundle)
            users[bundle] -= 1
        for table in ("batches", "results", "attempts", "tries", "files", "output", "histories"):
            run(f"DELETE FROM {table} WHERE job = ?", (number,))
        run("DELETE FROM jobs WHERE number = ?", (number,))
        for digest in unused:
            if users[digest] <= 0:
                del users[digest]
                run(
                    "DELETE FROM functions WHERE digest = ?1"
                    " AND NOT EXISTS (SELECT 1 FROM jobs WHERE function = ?1)",
                    (digest,),
                )
        del self._numbers[job]
        self.forgot = True

    def recount(self) -> None:
        """What was written last is not there: count anew what is."""
        self._users = None

    def _bundle_users(self) -> Counter[bytes]:
        """How many jobs bring each bundle; read once, before a job is forgotten for the first time."""
        if self._users is None:
            rows = self._db.execute("SELECT options FROM jobs")
            found = (bundle_of(options) for (options,) in rows)
            self._users = Counter(bundle for bundle in found if bundle is not None)
        return self._users

    def _pack(self, number: int, bodies: list[Payload]) -> bytes:
        data, names = pack(bodies, self._files)
        for name in names:
            self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (number, name))
        return data


def _cuts(bodies: list[Payload]) -> Iterator[int]:
    """Where each row of payloads ends."""
    for lo in range(0, len(bodies), ROW_TASKS):
        part = bodies[lo : lo + ROW_TASKS]
        if total(part) > ROW_BYTES:
            size = 0
            for place, body in enumerate(part[:-1], lo + 1):
                size += nbytes(body)
                if size >= ROW_BYTES:
                    yield place
                    size = 0
        yield lo + len(part)


def bundle_of(options: bytes) -> bytes | None:
    """The digest of the bundle that a job with these packed options brings; None if it brings none."""
    try:
        found = msgpack.unpackb(options).get("bundle")
        return bytes.fromhex(found) if found else None
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException):
        return None  # damaged: it keeps nothing


def _whole(body: Payload) -> bytes:
    return b"".join(map(bytes, body)) if isinstance(body, tuple) else bytes(body)
