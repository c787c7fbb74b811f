"""What every journal does, whatever it keeps things in. A journal's tests inherit this class."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from manyhands_broker.core import records as r
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.store import Damaged
from manyhands_broker.journal import Journal
from manyhands_broker.journal.interface import MAX_OUTPUT
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m

DIGEST = bytes(range(16))
Reopen = Callable[[Journal], Journal]


def opened(job: str = "job", digest: bytes = DIGEST, first: int = 0) -> list[r.Record]:
    function = m.Function(digest, "f", [b"code"])
    return [
        r.FunctionStored(function),
        r.JobOpened(job, digest, {"durable": True}, 12.5, "me", first),
    ]


def ended(job: str, indices: list[int], bodies: list[Payload], status: int = 0) -> r.TasksEnded:
    return r.TasksEnded(m.ResultGroup(job, 1, indices, bytes([status]) * len(indices), bodies, 0.5))


def write(journal: Journal, *records: r.Record) -> None:
    for record in records:
        journal.append(record)
    journal.commit()


def whole(body: Payload | Damaged) -> Payload:
    """Return a payload that must not be damaged."""
    assert not isinstance(body, Damaged)
    return body


def job_of(journal: Journal, wanted: str = "job") -> StoredJob:
    [job] = [job for job in journal.jobs() if job.id == wanted]
    return job


def as_bytes(body: Payload) -> bytes | tuple[bytes, ...]:
    return tuple(map(bytes, body)) if isinstance(body, tuple) else bytes(body)


class JournalConformance:
    """Needs two fixtures: `journal`, an empty one, and `reopen`, which gives it back after a restart."""

    def test_a_job_comes_back_as_it_was(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b"a", b"b"]))
        write(journal, r.TasksTaken("job", 2, [b"c"]), r.JobClosed("job", 3))
        job = job_of(reopen(journal))
        assert (job.function, job.options, job.owner) == (DIGEST, {"durable": True}, "me")
        assert (job.submitted, job.total, job.closed, job.taken) == (12.5, 3, True, [(0, 3)])
        assert (job.marks, job.ended, job.summary) == (set(), {}, None)

    def test_jobs_come_back_oldest_first(self, journal: Journal, reopen: Reopen) -> None:
        for name in ("b", "a", "c"):
            write(journal, *opened(name))
        assert [job.id for job in reopen(journal).jobs()] == ["b", "a", "c"]

    def test_functions_are_kept(self, journal: Journal, reopen: Reopen) -> None:
        assert journal.function(DIGEST) is None
        write(journal, *opened(), *opened("other")[:1])
        function = reopen(journal).function(DIGEST)
        assert isinstance(function, m.Function)
        assert (function.digest, function.name) == (DIGEST, "f")
        assert list(map(as_bytes, function.bodies)) == [b"code"]

    def test_payloads_are_read_by_range(self, journal: Journal, reopen: Reopen) -> None:
        first = [bytes([n]) for n in range(100)]
        write(journal, *opened(), r.TasksTaken("job", 0, list(first)))
        write(journal, r.TasksTaken("job", 100, [(b"head", b"buffer"), b""]))
        again = reopen(journal)
        assert again.bodies("job", 0, 102) == [*first, (b"head", b"buffer"), b""]
        assert again.bodies("job", 98, 101) == [*first[98:], (b"head", b"buffer")]
        assert again.bodies("job", 5, 6) == [b"\5"]
        assert again.bodies("job", 102, 200) == again.bodies("unknown", 0, 1) == []

    def test_thousands_of_tasks_in_one_record(self, journal: Journal, reopen: Reopen) -> None:
        bodies = [n.to_bytes(4, "big") for n in range(5_000)]
        write(journal, *opened(), r.TasksTaken("job", 0, list(bodies)))
        again = reopen(journal)
        assert again.bodies("job", 0, 5_000) == bodies
        assert again.bodies("job", 1_023, 1_025) == bodies[1_023:1_025]
        assert job_of(again).taken == [(0, 5_000)]

    def test_large_payloads_come_back_whole(self, journal: Journal, reopen: Reopen) -> None:
        large, parts = b"L" * 3_000_000, (b"head", memoryview(b"x" * 400_000), b"")
        write(journal, *opened(), r.TasksTaken("job", 0, [large, b"small", parts]))
        write(journal, ended("job", [0, 1], [parts, large]))
        again = reopen(journal)
        wanted = [large, b"small", as_bytes(parts)]
        assert [as_bytes(whole(body)) for body in again.bodies("job", 0, 3)] == wanted
        assert [type(body) for body in again.bodies("job", 0, 3)] == [bytes, bytes, tuple]
        [stored] = again.results("job", 0, 1)
        assert list(map(as_bytes, stored.group.bodies)) == [as_bytes(parts), large]

    def test_tasks_left_out_are_known_as_such(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(first=5), r.TasksTaken("job", 5, [b"f", b"g"]))
        again = reopen(journal)
        assert (job_of(again).taken, job_of(again).total) == ([(5, 7)], 7)
        assert again.bodies("job", 5, 7) == [b"f", b"g"]

    def test_results_in_the_order_of_their_writing(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), *opened("other"), r.TasksTaken("job", 0, [b""] * 9))
        for index in (3, 1, 2):
            write(journal, ended("job", [index], [b"r%d" % index]), ended("other", [0], [b""]))
        again = reopen(journal)
        page = again.results("job", 0, 1 << 20)
        assert [stored.group.indices for stored in page] == [[3], [1], [2]]
        assert [stored.group.bodies for stored in page] == [[b"r3"], [b"r1"], [b"r2"]]
        assert (page[0].group.attempt, page[0].group.seconds) == (1, 0.5)
        positions = [stored.position for stored in page]
        assert positions == sorted(set(positions))
        assert again.last_position("job") == positions[-1]
        assert again.last_position("unknown") == 0

    def test_results_in_pages(self, journal: Journal) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b""] * 9))
        write(journal, *(ended("job", [index], [b"x" * 100]) for index in range(9)))
        position, seen, pages = 0, [], 0
        while page := journal.results("job", position, 250):
            seen += [stored.group.indices[0] for stored in page]
            position, pages = page[-1].position, pages + 1
        assert seen == list(range(9))
        assert pages == 3
        assert journal.results("unknown", 0, 100) == []

    def test_what_ended_how(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b""] * 4))
        write(journal, ended("job", [0, 2], [b"", b""]), ended("job", [3], [b""], m.Status.RAISED))
        assert job_of(reopen(journal)).ended == {0: 0, 2: 0, 3: 1}

    def test_attempts(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b""] * 4))
        write(journal, r.TasksStarted("job", [0, 1, 2], 1), r.AttemptsStale("job", [1], 2))
        write(journal, r.AttemptsStale("job", [3], 7))
        job = job_of(reopen(journal))
        assert job.floors == {0: 1, 1: 2, 2: 1, 3: 7}
        assert job.started == {0, 2}

    def test_tries(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b""] * 4))
        write(journal, r.TaskTried("job", 1, 1, ()), r.TaskTried("job", 1, 2, ("died", "again")))
        write(journal, r.TaskTried("job", 3, 0, ("died",)), r.AttemptsStale("job", [1], 4))
        job = job_of(reopen(journal))
        assert job.tries == {1: 2, 3: 0}
        assert job.stories == {1: ("died", "again"), 3: ("died",)}
        assert job.floors == {1: 4}

    def test_marks(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.JobMarked("job", "paused"))
        journal = reopen(journal)
        assert job_of(journal).marks == {"paused"}
        write(journal, r.JobMarked("job", "resumed"), r.JobMarked("job", "cancelled"))
        assert job_of(reopen(journal)).marks == {"cancelled"}

    def test_a_job_that_is_over_is_its_summary(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b""]), r.AttemptsStale("job", [0], 2))
        summary = {"id": "job", "state": "done", "digest": DIGEST, "ended": 99.5, "tasks": 1}
        write(journal, ended("job", [0], [b"r"]), r.JobEnded("job", summary))
        again = reopen(journal)
        job = job_of(again)
        assert (job.summary, job.ended, job.floors) == (summary, {}, {})
        assert again.results("job", 0, 1)[0].group.bodies == [b"r"]

    def test_output_keeps_the_last_lines(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), *opened("other"))
        for index in range(MAX_OUTPUT + 10):
            journal.append(r.TaskPrinted("job", 2, index, f"line {index}"))
            journal.append(r.TaskPrinted("other", 1, index, "noise"))
        journal.commit()
        again = reopen(journal)
        last = MAX_OUTPUT + 9
        latest = [(n, 2, f"line {n}") for n in (last - 1, last)]
        assert [one[1:] for one in again.output("job", 2)] == latest
        lines = again.output("job", 10_000)
        assert [one.task for one in lines] == list(range(10, last + 1))
        write(again, r.JobEnded("job", {}))
        assert again.output("job", 10_000) == lines
        assert again.output("job", -1) == again.output("unknown", 5) == []

    def test_output_is_read_on_where_it_was_left(self, journal: Journal) -> None:
        write(journal, *opened(), *opened("other"))
        for index in range(9):
            journal.append(r.TaskPrinted("job", 1, index % 3, f"line {index}"))
            journal.append(r.TaskPrinted("other", 1, index, "noise"))
        journal.commit()
        found = list(journal.output("job", 4, after=0))
        found += journal.output("job", 100, after=found[-1].position)
        assert [one.text for one in found] == [f"line {n}" for n in range(9)]
        assert [one.text for one in journal.output("job", 2, task=1)] == ["line 4", "line 7"]
        behind = journal.output("job", 2, task=1, after=found[1].position)
        assert [one.text for one in behind] == ["line 4", "line 7"]
        assert journal.output("job", 9, after=found[-1].position) == []
        write(journal, r.TaskPrinted("job", 1, 0, "one more"))
        assert [one.text for one in journal.output("job", 9, after=found[-1].position)] == [
            "one more"
        ]

    def test_the_history_of_a_job_goes_with_it(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), *opened("other"))
        history = {"timeline": [[1.5, 3]], "failures": {"groups": [{"message": "bad"}]}}
        write(journal, r.JobEnded("job", {}), r.JobRemembered("job", {}))
        write(journal, r.JobRemembered("job", history))
        again = reopen(journal)
        assert again.history("job") == history
        assert again.history("other") is again.history("unknown") is None
        write(again, r.JobForgotten("job"))
        assert reopen(again).history("job") is None

    def test_a_forgotten_job_is_gone(self, journal: Journal, reopen: Reopen) -> None:
        large = b"L" * 1_000_000
        write(journal, *opened(), *opened("other"), r.TasksTaken("job", 0, [large, b"s"]))
        write(journal, ended("job", [0], [b"r"]), r.TaskPrinted("job", 1, 0, "text"))
        write(journal, r.JobEnded("job", {}), r.JobForgotten("job"))
        for restart in (False, True):
            kept = reopen(journal) if restart else journal
            assert [job.id for job in kept.jobs()] == ["other"]
            assert kept.bodies("job", 0, 2) == kept.results("job", 0, 1) == []
            assert kept.output("job", 10) == []
            assert kept.function(DIGEST) is not None, "the other job needs it"
        write(kept, *opened(), r.JobForgotten("other"), r.JobForgotten("job"))
        assert list(kept.jobs()) == []
        assert kept.function(DIGEST) is None

    def test_modules_are_kept_as_long_as_a_job_brings_them(
        self, journal: Journal, reopen: Reopen
    ) -> None:
        modules = m.Function(b"m" * 16, "modules", [b"modules"])
        options = {"durable": True, "bundle": modules.digest.hex()}
        write(journal, *opened("plain"), r.FunctionStored(modules))
        for job in ("one", "two"):
            write(journal, r.JobOpened(job, DIGEST, options, 12.5, "me", 0))
        write(journal, r.JobForgotten("plain"), r.JobForgotten("one"))
        kept = reopen(journal)
        assert kept.function(modules.digest) == modules
        # What one job has as its function may be the modules of another.
        write(kept, r.JobOpened("odd", modules.digest, {"durable": True}, 12.5, "me", 0))
        write(kept, r.JobForgotten("odd"))
        assert kept.function(modules.digest) == modules
        write(kept, r.JobForgotten("two"))
        assert kept.function(modules.digest) is None
        assert kept.function(DIGEST) is None

    def test_a_forgotten_name_can_be_used_again(self, journal: Journal, reopen: Reopen) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b"old"]), ended("job", [0], [b"r"]))
        write(journal, r.JobForgotten("job"), *opened(), r.TasksTaken("job", 0, [b"new"]))
        again = reopen(journal)
        assert again.bodies("job", 0, 1) == [b"new"]
        assert again.results("job", 0, 1) == []

    def test_a_large_payload_of_two_jobs_outlives_one(
        self, journal: Journal, reopen: Reopen
    ) -> None:
        large = b"L" * 1_000_000
        write(journal, *opened(), r.TasksTaken("job", 0, [large]))
        write(journal, r.JobForgotten("job"), *opened("two"), r.TasksTaken("two", 0, [large]))
        write(journal, *opened("three"), r.TasksTaken("three", 0, [large]))
        write(journal, r.JobForgotten("two"))
        assert reopen(journal).bodies("three", 0, 1) == [large]

    def test_nothing_is_seen_before_the_commit(self, journal: Journal) -> None:
        write(journal, *opened(), r.TasksTaken("job", 0, [b"a"]))
        journal.append(r.TasksTaken("job", 1, [b"b"]))
        journal.append(ended("job", [0], [b"r"]))
        assert journal.bodies("job", 0, 2) == [b"a"]
        assert journal.results("job", 0, 1) == []
        assert job_of(journal).total == 1

    def test_a_commit_of_nothing(self, journal: Journal) -> None:
        journal.commit()
        write(journal, *opened())
        journal.commit()
        assert [job.id for job in journal.jobs()] == ["job"]

    def test_room(self, journal: Journal) -> None:
        assert journal.has_room(1_000)
        assert not journal.has_room(1 << 60)


#: Writes one task a commit and says so; the argument is what it does at the end.
WRITER = """
import os, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from harness.journals import opened, write
from manyhands_broker.core import records as r
from manyhands_broker.journal.sqlite import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]), reserve=0)
write(journal, *opened())
print("open", flush=True)

def wait():
    print("busy", flush=True)
    sys.stdin.read()

for index in range(1_000_000):
    large = [b"L" * 300_000] if index % 20 == 7 else [b"%d" % index]
    write(journal, r.TasksTaken("job", index, large))
    print(index, flush=True)
    if sys.argv[2] == "uncommitted" and index == 20:
        journal._db.execute("PRAGMA cache_size = 1")  # so that pages spill to the log
        for late in range(21, 500):
            journal.append(r.TasksTaken("job", late, [b"x" * 5_000]))
        journal._files.sync = wait  # the last step before the commit
        journal.commit()
"""


def payload_files(place: Path) -> list[Path]:
    return [path for path in (place / "payloads").glob("*/*") if path.is_file()]


def killed_writer(place: Path, mode: str, enough: str) -> int:
    """Run a writer, kill it once it says `enough`; returns the last task it said was committed."""
    code = [sys.executable, "-c", WRITER, str(place), mode, str(Path(__file__).parents[1])]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert any(line.strip() == enough for line in writer.stdout)
        writer.send_signal(signal.SIGKILL)
        rest = [line for line in writer.stdout.read().split("\n")[:-1] if line.isdigit()]
    return int(rest[-1]) if rest else int(enough) if enough.isdigit() else 20
