"""A journal whose files are damaged: each wrong byte is found out, and costs only its own job."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from harness.journals import ended, killed_writer, opened, payload_files, write
from harness.worlds.broker import World
from manyhands_broker.core import records as r
from manyhands_broker.core.store import Damaged
from manyhands_broker.journal import sqlite
from manyhands_broker.journal.sqlite import SqliteJournal
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

PAGE = 4_096
JOBS = [f"job-{number}" for number in range(4)]
TASKS = 24


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def argument(job: str, index: int) -> bytes:
    return random.Random(f"{job} {index}").randbytes(700)


def result(job: str, index: int) -> bytes:
    return argument(job, index)[::-1]


def fill(place: Path) -> None:
    """Four jobs of 24 tasks: half of them have ended, the last job is over."""
    journal = SqliteJournal(place, reserve=0)
    for number, job in enumerate(JOBS):
        write(journal, *opened(job, bytes([number]) * 16))
        for first in range(0, TASKS, 6):
            bodies: list[Payload] = [argument(job, index) for index in range(first, first + 6)]
            write(journal, r.TasksTaken(job, first, bodies))
        write(journal, r.JobClosed(job, TASKS), r.AttemptsStale(job, [20], 3))
        write(journal, r.TaskTried(job, 20, 2, ("died",)), r.TaskPrinted(job, 1, 0, f"of {job}"))
        for first in range(0, TASKS if job == JOBS[-1] else TASKS // 2, 4):
            indices = list(range(first, first + 4))
            write(journal, ended(job, indices, [result(job, index) for index in indices]))
    write(journal, r.JobEnded(JOBS[-1], {"id": JOBS[-1], "state": "done", "tasks": TASKS}))
    journal.close()


def look(place: Path) -> tuple[set[str], set[str]]:
    """Open a journal and read all there is in it: the jobs that are whole, and those that are not.

    What comes back as whole is what was written.
    """
    journal = SqliteJournal(place, reserve=0)
    whole: set[str] = set()
    hurt: set[str] = set()
    for stored in list(journal.jobs()):
        job = stored.id
        sound = not stored.damage and stored.total == (0 if stored.summary else TASKS)
        assert stored.summary in (None, {"id": job, "state": "done", "tasks": TASKS})
        if stored.damage:
            hurt.add(job)
            continue
        bodies = journal.bodies(job, 0, TASKS)
        sound = sound and len(bodies) == TASKS
        for index, body in enumerate(bodies):
            sound = sound and not isinstance(body, Damaged)
            assert isinstance(body, Damaged) or body == argument(job, index)
        position, seen = 0, set()
        while page := journal.results(job, position, 1 << 20):
            position = page[-1].position
            for group in (one.group for one in page):
                for index, status, body in zip(
                    group.indices, group.statuses, group.bodies, strict=True
                ):
                    seen.add(index)
                    if status == Status.LOST:
                        assert job in Failure.decode(body).message
                        sound = False
                    else:
                        assert (status, body) == (Status.OK, result(job, index))
        sound = sound and len(seen) == (TASKS if stored.summary else TASKS // 2)
        for printed in journal.output(job, 10):
            assert printed.text == f"of {job}"
        assert stored.summary or stored.tries in ({20: 2}, {})
        function = journal.function(bytes([JOBS.index(job)]) * 16)
        sound = sound and not isinstance(function, Damaged | None)
        (whole if sound else hurt).add(job)
    # It can be written, and is well at the next start.
    write(journal, *opened("new"), r.TasksTaken("new", 0, [b"x"]), ended("new", [0], [b"y"]))
    write(journal, r.TaskPrinted("new", 1, 0, "text"), r.AttemptsStale("new", [0], 2))
    journal.close()
    again = SqliteJournal(place, reserve=0)
    assert "new" in {stored.id for stored in again.jobs()}
    write(again, r.JobForgotten("new"))
    again.close()
    return whole, hurt


def test_a_damaged_page_costs_what_lay_on_it(tmp_path: Path, place: Path) -> None:
    """Each page in turn, overwritten with noise: no page stops the start, no value is a wrong one."""
    fill(place)
    pages = (place / "journal.db").stat().st_size // PAGE
    losses = {}
    for page in range(pages):
        copy = tmp_path / f"copy-{page}"
        shutil.copytree(place, copy)
        with (copy / "journal.db").open("r+b") as file:
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))
        whole, hurt = look(copy)
        losses[page] = len(JOBS) - len(whole)
        assert whole | hurt >= set(JOBS), f"page {page}: a job is gone without a word"
        shutil.rmtree(copy)
    assert look(place) == (set(JOBS), set())
    assert sorted(losses.values())[pages // 2] <= 1, losses
    assert sum(lost > 2 for lost in losses.values()) <= 8, losses


def test_a_flipped_byte_is_never_a_wrong_value(tmp_path: Path, place: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"{seed=}")
    rng = random.Random(seed)
    fill(place)
    size = (place / "journal.db").stat().st_size
    for number in range(60):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(place, copy)
        with (copy / "journal.db").open("r+b") as file:
            at = rng.randrange(size)
            file.seek(at)
            old = file.read(1)[0]
            file.seek(at)
            file.write(bytes([old ^ (1 << rng.randrange(8))]))
        look(copy)
        shutil.rmtree(copy)


INDEXES = (
    *("batches_of_job", "results_of_job", "output_of_job", "jobs_of_function"),
    *("files_of_job", "sqlite_autoindex_jobs_1", "sqlite_autoindex_functions_1"),
)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("index", INDEXES)
def test_an_index_that_lies_costs_its_job_and_moves_no_value(
    index: str, size: str, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large database is not looked through at the start: the lie is met when it is read."""
    if size == "large":
        monkeypatch.setattr(sqlite, "CHECK_BYTES", 0)
    fill(place)
    db = apsw.Connection(str(place / "journal.db"))
    [[root]] = list(db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)))
    db.close()
    data, start = (place / "journal.db").read_bytes(), (root - 1) * PAGE
    entries = int.from_bytes(data[start + 5 : start + 7], "big")  # where the page's content begins
    for number, at in enumerate(range(start + entries, start + PAGE)):
        copy = tmp_path / "copy"
        shutil.copytree(place, copy)
        with (copy / "journal.db").open("r+b") as file:
            file.seek(at)
            file.write(bytes([data[at] ^ (1 << number % 3)]))
        look(copy)
        shutil.rmtree(copy)


#: In the first page: SQLite's header with the version of the tables, and what the tables are.
HEADER, VERSION, TABLES = range(100), range(60, 64), range(1_000, PAGE)


def test_a_flipped_bit_of_the_first_page_costs_next_to_nothing(tmp_path: Path, place: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"{seed=}")
    rng = random.Random(seed)
    fill(place)
    flips = [(at, rng.randrange(8)) for at in (*HEADER, *rng.sample(TABLES, 60))]
    flips += [(at, bit) for at in VERSION for bit in range(8)]
    flips += [(at, bit) for at in (18, 47) for bit in range(8)]  # what may write it, and the format
    data = (place / "journal.db").read_bytes()
    column = data.index(b"text TEXT")
    for at, bit in [*flips, (column, 0), (column, 7)]:
        copy = tmp_path / "copy"
        shutil.copytree(place, copy)
        with (copy / "journal.db").open("r+b") as file:
            file.seek(at)
            file.write(bytes([data[at] ^ (1 << bit)]))
        whole, hurt = look(copy)
        assert whole | hurt == set(JOBS), (at, bit)
        # How many pages there are is what bytes 28 to 31 say: what lies behind is lost.
        assert not hurt or at in range(28, 32), (at, bit)
        shutil.rmtree(copy)


@pytest.mark.parametrize(
    "at", [0, 18, 60, -1], ids=["magic", "may write", "version", "name of a column"]
)
def test_a_first_page_that_is_damaged_in_the_log(tmp_path: Path, place: Path, at: int) -> None:
    """Beside a database that is mended it must not count either."""
    fill(place)
    journal = SqliteJournal(place, reserve=0)
    for name in ("one", "two"):
        write(journal, *opened(name), r.TasksTaken(name, 0, [bytes(20_000)]))
        write(journal, r.JobForgotten(name))
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    journal.close()
    log = bytearray((copy / "journal.db-wal").read_bytes())
    first = [
        frame + 24
        for frame in range(32, len(log), 24 + PAGE)
        if int.from_bytes(log[frame : frame + 4]) == 1
    ]
    assert len(first) > 2
    for page in first:
        place_of_it = log.index(b"text TEXT", page) if at < 0 else page + at
        log[place_of_it : place_of_it + 4] = b"\x7f\x7f\x7f\x7f"
    (copy / "journal.db-wal").write_bytes(log)
    assert look(copy) == (set(JOBS), set())


LARGE = bytes(range(256)) * 2_000


def damage(file: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _become_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": damage,
    "short": lambda file: os.truncate(file, 1_000),
    "empty": lambda file: os.truncate(file, 0),
    "long": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "noise": lambda file: file.write_bytes(os.urandom(10_000)),
    "missing": Path.unlink,
    "a directory": _become_directory,
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_payload_file_that_is_not_what_it_was(place: Path, how: str) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [LARGE, b"small"]))
    write(journal, ended("job", [0, 1], [LARGE, b"fine"]))
    [file] = payload_files(place)
    DAMAGES[how](file)
    lost, small = journal.bodies("job", 0, 2)
    assert isinstance(lost, Damaged)
    assert str(file) in lost.reason
    assert small == b"small"
    [stored] = journal.results("job", 0, 1)
    assert stored.group.statuses == bytes([Status.LOST, Status.OK])
    assert str(file) in Failure.decode(stored.group.bodies[0]).message
    assert stored.group.bodies[1] == b"fine"
    journal.close()
    again = SqliteJournal(place)
    assert [job.id for job in again.jobs()] == ["job"]
    again.close()


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
def test_content_that_comes_again_takes_the_place_of_a_damaged_file(place: Path, how: str) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [LARGE]))
    [file] = payload_files(place)
    DAMAGES[how](file)
    write(journal, *opened("other"), r.TasksTaken("other", 0, [LARGE]))
    assert journal.bodies("other", 0, 1) == journal.bodies("job", 0, 1) == [LARGE]
    journal.close()


def test_nothing_is_swept_while_a_file_is_missing(place: Path) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened(), r.TasksTaken("job", 0, [LARGE, LARGE + b"other"]))
    journal.close()
    first, second = payload_files(place)
    first.rename(first.with_name("0" * 40))
    SqliteJournal(place).close()
    assert second in payload_files(place)
    assert first.with_name("0" * 40) in payload_files(place)


def test_a_crash_in_the_middle_of_a_rebuilding(place: Path) -> None:
    fill(place)
    for name in ("journal.db.rebuilding", "journal.db.patched"):
        (place / name).write_bytes(b"half")
    (place / "journal.db.rebuilt").write_bytes(b"not needed, the old one is there")
    assert look(place) == (set(JOBS), set())
    (place / "journal.db").rename(place / "journal.db.rebuilt")
    (place / "journal.db-wal").write_bytes(b"the log of the damaged one")
    whole, _ = look(place)
    assert whole == set(JOBS)
    assert {file.name for file in place.glob("journal.db.[pr]*")} == set()


def test_damage_in_the_middle_of_the_log_costs_what_it_hit(tmp_path: Path, place: Path) -> None:
    """What was acknowledged behind it is there, and nothing that was written reads otherwise."""
    committed = killed_writer(place, "endless", "60")
    size = (place / "journal.db-wal").stat().st_size
    seed = random.randrange(1 << 32)
    print(f"{seed=}")
    rng = random.Random(seed)
    places = [0, 10, 20, 28, 36, 44, *(rng.randrange(32, size * 3 // 4) for _ in range(9))]
    for number, at in enumerate(places):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(place, copy)
        with (copy / "journal.db-wal").open("r+b") as file:
            file.seek(at)
            file.write(b"damage")
        journal = SqliteJournal(copy, reserve=0)
        [job] = list(journal.jobs())
        assert not job.damage
        assert job.total > committed, "what came behind is there"
        bodies = journal.bodies("job", 0, job.total)
        lost = 0
        for index, body in enumerate(bodies):
            lost += isinstance(body, Damaged)
            large = b"L" * 300_000 if index % 20 == 7 else b"%d" % index
            assert isinstance(body, Damaged) or body == large
        assert lost < len(bodies) / 2
        journal.close()
        shutil.rmtree(copy)


def test_a_copy_without_its_log_says_so(
    tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = SqliteJournal(place)
    write(journal, *opened())
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(place / "journal.db", copy)
    journal.close()
    SqliteJournal(place).close()
    assert "without its log" not in caplog.text
    SqliteJournal(copy).close()
    assert "without its log" in caplog.text
    assert "manyhands backup" in caplog.text


# In the scheduler


def damaged_world(place: Path, hurt: Callable[[Path], object], **options: Any) -> World:
    """A job of three tasks, another beside it; the broker is started again on damaged files."""
    world = World(journal=SqliteJournal(place, reserve=0))  # type: ignore[arg-type]
    world.client()
    world.submit(3, **options)
    world.submit(2, "other")
    world.journal.close()
    hurt(place)
    world.journal = SqliteJournal(place, reserve=0)  # type: ignore[assignment]
    world.now += 1
    world.inbox.clear()
    world.start()
    world.client()
    return world


def overwrite(old: bytes, new: bytes) -> Callable[[Path], object]:
    def hurt(place: Path) -> None:
        data = (place / "journal.db").read_bytes()
        assert old in data
        (place / "journal.db").write_bytes(data.replace(old, new))

    return hurt


def run_all(world: World) -> dict[tuple[str, int], bytes]:
    world.node(slots=8)
    world.wait(world.limits.rejoin_wait, b"node")
    ran = {}
    while given := world.assigned():
        ran.update({key: body for key, (_, body) in given.items()})
        world.drain(*((b"node", world.result(i, n, job)) for (job, i), (n, _) in given.items()))
    return ran


def test_damaged_arguments_fail_their_tasks_alone(place: Path) -> None:
    world = damaged_world(place, overwrite(b"arg2", b"argX"))
    ran = run_all(world)
    assert set(ran) == {("other", 0), ("other", 1)}, "the three of one row cannot be told apart"
    found = world.ask("job", id="job")
    assert (found["state"], found["failed"]) == ("failed", 3)
    assert "journal" in found["story"][0]
    world.drain((b"client", m.Attach("job")))
    [message] = world.take(b"client", m.Results)
    assert {status for group in message.groups for status in group.statuses} == {Status.LOST}
    assert "job job" in Failure.decode(message.groups[0].bodies[0]).message
    assert world.ask("job", id="other")["state"] == "done"
    world.journal.close()


def test_a_damaged_function_fails_its_jobs(place: Path) -> None:
    world = damaged_world(place, overwrite(b"code", b"cope"))
    assert run_all(world) == {}
    assert world.ask("job", id="job")["state"] == "failed"
    # Once it is submitted again, it is whole.
    world.submit(1, "new")
    assert set(run_all(world)) == {("new", 0)}
    world.journal.close()


def test_a_damaged_record_is_set_aside_by_name(place: Path) -> None:
    world = damaged_world(place, overwrite(b"\x81\xa7durable\xc3", b"\x81\xa7durablf\xc3"))
    found = world.ask("job", id="job")
    assert (found["state"], found["tasks"], found["failed"]) == ("failed", 3, 3)
    assert "damaged" in found["story"][0]
    world.drain((b"client", m.Attach("job")))
    [message] = world.take(b"client", m.Results)
    assert sorted(i for group in message.groups for i in group.indices) == [0, 1, 2]
    assert world.ask("forget", id="job")["forgotten"]
    world.journal.close()
    world.journal = SqliteJournal(place, reserve=0)  # type: ignore[assignment]
    world.start()
    world.client()
    assert [job["id"] for job in world.ask("jobs")] == ["other"]
    world.journal.close()


def test_a_record_that_cannot_be_used_is_set_aside_by_name(place: Path) -> None:
    journal = SqliteJournal(place, reserve=0)
    write(journal, *opened("good"), r.TasksTaken("good", 0, [b"a"]))
    write(journal, r.JobOpened("bad", bytes(16), {"priority": "high"}, 1.0, "me"))
    write(journal, r.TasksTaken("bad", 0, [b"a", b"b"]))
    write(journal, *opened("worse"), r.TasksTaken("worse", 0, [b"a"]))
    write(journal, r.AttemptsStale("worse", [0], 1 << 40))
    world = World(journal=journal)  # type: ignore[arg-type]
    world.client()
    states = {job["id"]: job["state"] for job in world.ask("jobs")}
    assert states == {"good": "queued", "bad": "failed", "worse": "failed"}
    world.core.validate()
    for job in ("bad", "worse"):
        assert job in world.ask("job", id=job)["story"][0]
    assert world.core.state.counters["jobs_set_aside"] == 2
    journal.close()
