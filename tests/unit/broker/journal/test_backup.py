"""A whole copy of a journal that is in use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.broker_process import kill, start
from harness.command import fails, run
from harness.journals import ended, job_of, opened, payload_files, write
from harness.processes import free_port
from harness.worlds.broker import World
from manyhands import Client
from manyhands_broker.core import records as r
from manyhands_broker.journal import backup as backup_module
from manyhands_broker.journal.sqlite import SqliteJournal

LARGE = bytes(range(256)) * 2_000


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    journal = SqliteJournal(tmp_path / "journal", reserve=0)
    write(journal, *opened(), r.TasksTaken("job", 0, [LARGE, b"small"]))
    for index in range(200):
        write(journal, *opened(f"filler-{index}"))
        write(journal, r.TasksTaken(f"filler-{index}", 0, [os.urandom(5_000)] * 2))
    yield journal
    journal.close()


def finish(journal: SqliteJournal) -> None:
    while journal.working:
        journal.work()


def test_what_is_written_meanwhile_is_in_the_copy(journal: SqliteJournal, tmp_path: Path) -> None:
    place = tmp_path / "deep" / "copy"
    assert not journal.backup(str(place), begin=True)["done"]
    journal.work()
    assert journal.working, "it takes several steps"
    # Between the steps the journal is written, at its beginning and at its end.
    write(journal, ended("job", [0, 1], [b"r" + LARGE, b"r"]), r.JobMarked("job", "paused"))
    write(journal, *opened("late"), r.TasksTaken("late", 0, [b"late"]))
    write(journal, r.JobForgotten("filler-3"))
    finish(journal)
    report = journal.backup(str(place), begin=False)
    assert (report["done"], report["files"], report["damaged"]) == (True, 2, [])
    write(journal, r.JobForgotten("job"))
    copy = SqliteJournal(place, reserve=0)
    names = {job.id for job in copy.jobs()}
    assert {"job", "late", "filler-199"} <= names
    assert "filler-3" not in names
    assert copy.bodies("job", 0, 2) == [LARGE, b"small"]
    assert copy.results("job", 0, 1)[0].group.bodies == [b"r" + LARGE, b"r"]
    assert job_of(copy).marks == {"paused"}
    copy.close()
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "journal.db").stat().st_mode & 0o777 == 0o600


def test_a_payload_that_is_forgotten_meanwhile_is_copied_first(
    journal: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "_STEP_PAGES", 100_000)
    place = tmp_path / "copy"
    journal.backup(str(place), begin=True)
    journal.work()  # all pages
    write(journal, r.JobForgotten("job"))
    assert payload_files(tmp_path / "journal"), "the copy needs it"
    finish(journal)
    copy = SqliteJournal(place, reserve=0)
    assert copy.bodies("job", 0, 1) == [LARGE]
    copy.close()
    write(journal, *opened("next"))
    assert not payload_files(tmp_path / "journal"), "now it goes"


def test_a_copy_does_not_share_what_is_damaged_later(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    journal.backup(str(tmp_path / "copy"), begin=True)
    finish(journal)
    [file] = payload_files(tmp_path / "journal")
    with file.open("r+b") as open_file:
        open_file.write(b"damaged in place")
    copy = SqliteJournal(tmp_path / "copy", reserve=0)
    assert copy.bodies("job", 0, 1) == [LARGE]
    copy.close()


def test_what_is_damaged_already_is_named(journal: SqliteJournal, tmp_path: Path) -> None:
    [file] = payload_files(tmp_path / "journal")
    file.unlink()
    journal.backup(str(tmp_path / "copy"), begin=True)
    finish(journal)
    [line] = journal.backup(str(tmp_path / "copy"), begin=False)["damaged"]
    assert str(file) in line


def test_a_place_that_cannot_be_is_said(journal: SqliteJournal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    for place in ("file", "file/below", "full"):
        with pytest.raises(LookupError, match="cannot make a backup"):
            journal.backup(str(tmp_path / place), begin=True)
    with pytest.raises(LookupError, match="no backup in"):
        journal.backup(str(tmp_path / "other"), begin=False)
    journal.backup(str(tmp_path / "gone"), begin=True)
    journal.work()
    shutil.rmtree(tmp_path / "gone")
    finish(journal)
    with pytest.raises(LookupError, match="cannot copy the journal"):
        journal.backup(str(tmp_path / "gone"), begin=False)
    # Another one can be made.
    journal.backup(str(tmp_path / "again"), begin=True)
    finish(journal)
    assert journal.backup(str(tmp_path / "again"), begin=False)["done"]


def test_the_order_takes_a_whole_path(world: World) -> None:
    for arguments in ({"directory": "relative"}, {"directory": ""}, {"directory": 7}, {}):
        with pytest.raises(LookupError, match="directory"):
            world.ask("backup", **arguments)


def test_without_a_journal_there_is_none(world: World) -> None:
    with pytest.raises(LookupError, match="without --journal"):
        world.ask("backup", directory="/backup")


def test_the_command_copies_a_journal_in_use(tmp_path: Path) -> None:
    broker = start(tmp_path / "journal", free_port())
    named = {"MANYHANDS_BROKER": broker.address}
    with Client(broker.address) as client:
        job = client.submit_job(len, [("x" * 300_000,), ("four",)], durable=True)
    place = tmp_path / "copies" / "first"
    result = run("backup", place, env=named)
    assert result.returncode == 0, result.stderr
    assert str(place) in result.stdout
    assert "is not empty" in fails(run("backup", place, env=named), 1)
    kill(broker)
    shutil.rmtree(tmp_path / "journal")
    broker = start(place, free_port())
    with Client(broker.address) as client:
        found = client.job(job.id).info()
        assert (found["tasks"], found["state"]) == (2, "queued")
    log = broker.close()
    assert "without its log" not in log
