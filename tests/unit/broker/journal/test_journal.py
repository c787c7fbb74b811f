"""The journals: what all do, and what the one on disk survives."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from harness.journals import (
    DIGEST,
    JournalConformance,
    Reopen,
    ended,
    job_of,
    killed_writer,
    opened,
    payload_files,
    write,
)
from harness.processes import small_disk
from manyhands_broker.core import records as r
from manyhands_broker.journal import Journal, JournalBroken, JournalFull, MemoryJournal
from manyhands_broker.journal.schema import MIGRATIONS
from manyhands_broker.journal.sqlite import SqliteJournal

#: A little more than one frame of the log.
TORN = 4_500


class TestMemory(JournalConformance):
    """The one that survives nothing; what it has stays."""

    @pytest.fixture
    def journal(self) -> Journal:
        return MemoryJournal()

    @pytest.fixture
    def reopen(self) -> Reopen:
        return lambda journal: journal


class TestSqlite(JournalConformance):
    """The one on disk."""

    @pytest.fixture
    def journal(self, tmp_path: Path, closing: list[Journal]) -> Journal:
        closing.append(SqliteJournal(tmp_path / "journal", reserve=0))
        return closing[-1]

    @pytest.fixture
    def reopen(self, tmp_path: Path, closing: list[Journal]) -> Reopen:
        def reopen(journal: Journal) -> Journal:
            journal.close()
            closing.append(SqliteJournal(tmp_path / "journal", reserve=0))
            return closing[-1]

        return reopen


@pytest.fixture
def closing() -> Iterator[list[Journal]]:
    """Journals to be closed after the test."""
    journals: list[Journal] = []
    yield journals
    for journal in journals:
        journal.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_forgetting_removes_files_once_it_is_committed(place: Path) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"L" * 400_000]))
    [file] = payload_files(place)
    journal.append(r.JobForgotten("job"))
    assert file.exists()
    journal.commit()
    assert not payload_files(place)
    journal.close()


def test_files_without_a_name_are_swept_at_the_start(place: Path) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"L" * 400_000]))
    journal.close()
    [wanted] = payload_files(place)
    (wanted.parent / "0123456789").write_bytes(b"what a crash left")
    wanted.with_suffix(".draft").write_bytes(b"half")
    journal = SqliteJournal(place)
    assert payload_files(place) == [wanted]
    assert journal.bodies("job", 0, 1) == [b"L" * 400_000]
    journal.close()


def test_one_row_does_not_read_the_files_of_its_neighbours(place: Path) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"L" * 400_000, b"small"]))
    [file] = payload_files(place)
    file.unlink()
    assert journal.bodies("job", 1, 2) == [b"small"]
    journal.close()


def test_forgetting_gives_the_space_back(place: Path) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"x" * 10_000] * 1_000))
    journal.close()
    full = (place / "journal.db").stat().st_size
    journal = SqliteJournal(place)
    write(journal, r.JobForgotten("job"))
    journal.close()
    assert (place / "journal.db").stat().st_size < full / 10


def test_space_within_the_file_counts_as_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands_broker.journal.sqlite.VACUUM_PAGES", 1)
    journal = SqliteJournal(place, reserve=0)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"x" * 10_000] * 1_000))
    write(journal, r.JobForgotten("job"))
    nothing_left = os.statvfs_result((4096, 4096, 1, 0, 0, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: nothing_left)
    assert journal.has_room(1_000_000)
    assert not journal.has_room(100_000_000)
    journal.close()


def test_a_journal_of_a_newer_version_is_refused(place: Path) -> None:
    SqliteJournal(place).close()
    db = apsw.Connection(str(place / "journal.db"))
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.execute("UPDATE meta SET value = ? WHERE key = 'version'", (len(MIGRATIONS) + 1,))
    db.close()
    with pytest.raises(JournalBroken, match="newer manyhands") as caught:
        SqliteJournal(place)
    assert "\n" not in str(caught.value)


def test_a_second_broker_is_refused(place: Path) -> None:
    first = SqliteJournal(place)
    with pytest.raises(JournalBroken, match="another broker has the journal") as caught:
        SqliteJournal(place)
    assert "\n" not in str(caught.value)
    write(first, *opened())
    first.close()


def test_a_file_of_garbage_is_refused_and_left_as_it_is(place: Path) -> None:
    place.mkdir()
    garbage = bytes(range(256)) * 100
    (place / "journal.db").write_bytes(garbage)
    with pytest.raises(JournalBroken, match="damaged") as caught:
        SqliteJournal(place)
    assert "\n" not in str(caught.value)
    assert (place / "journal.db").read_bytes() == garbage
    assert not list(place.glob("journal.db.*"))


def test_a_place_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalBroken, match="cannot open"):
        SqliteJournal(tmp_path / "file" / "journal")


def read_back(place: Path) -> list[bytes]:
    journal = SqliteJournal(place)
    total = job_of(journal).total
    bodies = journal.bodies("job", 0, total)
    journal.close()
    assert len(bodies) == total
    for index, body in enumerate(bodies):
        assert body == (b"L" * 300_000 if index % 20 == 7 else b"%d" % index)
    return bodies  # type: ignore[return-value]


def test_what_was_committed_survives_kill_9(place: Path) -> None:
    committed = killed_writer(place, "endless", "150")
    # One more may have been committed without having been reported.
    assert len(read_back(place)) - committed - 1 in (0, 1)


def test_a_killed_transaction_vanishes_whole(place: Path) -> None:
    assert killed_writer(place, "uncommitted", "busy") == 20
    assert (place / "journal.db-wal").stat().st_size > 1_000_000, "it did reach the log"
    assert len(read_back(place)) == 21


@pytest.mark.parametrize("damage", ["cut", "noise", "zeros"])
def test_a_torn_tail_of_the_log_costs_only_the_tail(place: Path, damage: str) -> None:
    killed_writer(place, "endless", "40")
    log = place / "journal.db-wal"
    before = len(read_back_copy(place))
    data = log.read_bytes()
    tail = {"cut": b"", "noise": os.urandom(TORN), "zeros": bytes(TORN)}[damage]
    log.write_bytes(data[:-TORN] + tail)
    after = len(read_back(place))
    assert before - 2 <= after < before


def read_back_copy(place: Path) -> list[bytes]:
    """Read a copy, so that the log of the original stays as it is."""
    copy = place.with_name("copy")
    for file in itertools.chain(place.glob("*"), payload_files(place)):
        target = copy / file.relative_to(place)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return read_back(copy)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    with small_disk(tmp_path / "disk", "8m") as place:
        yield place


@pytest.mark.parametrize("body", [b"x" * 100_000, b"L" * 1_000_000], ids=["rows", "files"])
def test_a_full_disk_says_so_and_keeps_what_it_has(tiny_disk: Path, body: bytes) -> None:
    journal = SqliteJournal(tiny_disk / "journal", reserve=1 << 20)
    write(journal, *opened())
    taken = 0
    with pytest.raises(JournalFull, match="full") as caught:  # noqa: PT012 - until it is
        while True:
            refused_before = not journal.has_room(len(body))
            different = taken.to_bytes(4, "big") + body
            write(journal, r.TasksTaken("job", taken, [different]))
            taken += 1
    assert "\n" not in str(caught.value)
    assert taken > 3
    assert refused_before, "has_room said no before it was too late"
    for index in range(taken):
        assert journal.bodies("job", index, index + 1) == [index.to_bytes(4, "big") + body]
    with pytest.raises(JournalFull):
        journal.commit()
    assert job_of(journal).total == taken
    subprocess.run(["mount", "-o", "remount,size=32m", str(tiny_disk)], check=True)
    journal.commit()
    assert job_of(journal).total == taken + 1, "what waited was written once there was room"
    journal.close()
    again = SqliteJournal(tiny_disk / "journal", reserve=0)
    assert job_of(again).taken == [(0, taken + 1)]
    again.close()


class FailingFile(apsw.VFSFile):
    """A file of SQLite's whose operations fail on demand."""

    fail = ""
    syncs = 0

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        FailingFile.syncs += 1
        if FailingFile.fail == "sync":
            raise apsw.IOError
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        if FailingFile.fail == "write":
            raise apsw.IOError
        super().xWrite(data, offset)


class FailingDisk(apsw.VFS):
    """A file layer that opens `FailingFile`."""

    def __init__(self) -> None:
        super().__init__("failing", "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FailingFile:  # noqa: N802 - apsw's name
        return FailingFile("unix", name, flags)


@pytest.fixture
def failing() -> Iterator[type[FailingFile]]:
    disk = FailingDisk()
    FailingFile.fail, FailingFile.syncs = "", 0
    yield FailingFile
    FailingFile.fail = ""
    disk.unregister()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("operation", ["sync", "write"])
def test_a_failing_disk_breaks_the_journal_for_good(
    place: Path, failing: type[FailingFile], operation: str
) -> None:
    journal = SqliteJournal(place, vfs="failing")
    write(journal, *opened(), r.TasksTaken("job", 0, [b"a"]))
    failing.fail = operation
    with pytest.raises(JournalBroken, match="cannot write to the journal") as caught:
        write(journal, r.TasksTaken("job", 1, [b"b"]))
    assert "\n" not in str(caught.value)
    failing.fail, syncs = "", failing.syncs
    for _ in range(3):  # the disk seems well again: the journal knows better
        with pytest.raises(JournalBroken):
            journal.commit()
    journal.close()
    assert failing.syncs == syncs, "it was flushed again"
    again = SqliteJournal(place)
    assert again.bodies("job", 0, 1) == [b"a"]
    again.close()


def test_a_failing_checkpoint_breaks_the_journal(
    place: Path, failing: type[FailingFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands_broker.journal.sqlite.CHECKPOINT_PAGES", 1)
    journal = SqliteJournal(place, vfs="failing")
    write(journal, *opened())
    calls = itertools.count()
    original = FailingFile.xSync

    def second_fails(self: FailingFile, flags: int) -> None:
        if next(calls):
            raise apsw.IOError
        original(self, flags)

    monkeypatch.setattr(FailingFile, "xSync", second_fails)
    with pytest.raises(JournalBroken):
        write(journal, r.TasksTaken("job", 0, [b"a"]))
    monkeypatch.undo()
    journal.close()
    again = SqliteJournal(place)
    assert again.bodies("job", 0, 1) == [b"a"]
    again.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, JournalFull),
        (errno.EDQUOT, JournalFull),
        (errno.EMFILE, JournalFull),
        (errno.EIO, JournalBroken),
    ],
)
def test_a_payload_file_that_cannot_be_flushed(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened())

    def fails(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(kind):
            write(journal, r.TasksTaken("job", 0, [b"L" * 400_000]))
    if kind is JournalFull:
        journal.commit()
        assert journal.bodies("job", 0, 1) == [b"L" * 400_000]
    else:
        with pytest.raises(JournalBroken):
            journal.commit()
    journal.close()


def test_a_directory_that_could_not_be_opened_is_flushed_at_the_next_attempt(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened())
    flushed: list[Path] = []

    def none_left(_directory: Path) -> None:
        raise JournalFull("too many files are open")

    with monkeypatch.context() as patched:
        patched.setattr("manyhands_broker.journal.files.sync_directory", none_left)
        with pytest.raises(JournalFull):
            write(journal, r.TasksTaken("job", 0, [b"L" * 400_000]))
        patched.setattr("manyhands_broker.journal.files.sync_directory", flushed.append)
        journal.commit()
    payloads = place / "payloads"
    [file] = payloads.glob("*/*")
    assert set(flushed) == {payloads, file.parent}
    assert journal.bodies("job", 0, 1) == [b"L" * 400_000]
    journal.close()


def test_the_log_is_moved_into_the_database(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands_broker.journal.sqlite.CHECKPOINT_PAGES", 50)
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [b"a"]))
    for position in range(500):
        write(journal, ended("job", [position], [b"x" * 2_000]))
    assert (place / "journal.db-wal").stat().st_size < 1_000_000
    assert (place / "journal.db").stat().st_size > 1_000_000
    assert job_of(journal).function == DIGEST
    journal.close()
