"""What the broker keeps of how jobs went: bounded, by batches, and no more than the asker may see."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import records as r
from manyhands_broker.core.history import arrivals, failures, histories, runs, timeline
from manyhands_broker.core.history.histories import Histories
from manyhands_broker.core.history.runs import Run, Runs
from manyhands_broker.core.history.timeline import Timeline
from manyhands_broker.core.queries.answers import Reader, answer
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status


def history_of(world: World, job: str = "job", *, commands: bool = True) -> Any:
    return answer(
        world.core.state, "history", {"id": job}, world.now, Reader("another", commands=commands)
    )


def ran(
    first: int, seconds: float = 0.5, *, tasks: int = 1, job: str = "job", ago: float = 1.0
) -> m.Ran:
    figures = [first, tasks, 1, round(ago * 1e6), round(seconds * 1e6), 400_000, 20_480, 77]
    figures += [250_001, 99, 0]
    return m.Ran([m.RunGroup(job, 1, figures)], [])


@pytest.fixture
def world() -> World:
    world = World()
    world.client()
    world.node()
    return world


def failed(index: int, text: str) -> m.Results:
    body = Failure("builtins.ValueError", text, traceback=f"Traceback of {index}").encode()
    return m.Results(1, [m.ResultGroup("job", 1, [index], bytes([Status.RAISED]), [body], 0.1)])


def test_counts_over_time_are_those_of_the_job(world: World) -> None:
    world.submit(4)
    world.wait(1.0, b"node")
    world.drain((b"node", world.result(0)), (b"node", failed(1, "bad")))
    world.wait(1.0, b"node")
    found = history_of(world)
    assert found["columns"] == ["at", "queued", "active", "done", "failed", "cancelled"]
    assert found["timeline"][0][1:] == [0, 0, 0, 0, 0]
    assert found["timeline"][-1][1:] == [0, 2, 1, 1, 0]
    # Two tasks within the two seconds that there were.
    assert found["progress"]["rate"] == pytest.approx(1.0, rel=0.2)
    assert found["progress"]["eta"] == pytest.approx(2.0, rel=0.2)


def test_a_job_that_does_nothing_has_no_rate_that_stays(world: World) -> None:
    world.submit(6)
    world.wait(1.0, b"node")
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    world.wait(1.0, b"node")
    before = history_of(world)["progress"]
    world.wait(40.0, b"node")
    after = history_of(world)["progress"]
    assert after["rate"] == pytest.approx(2 / 42, rel=0.1)
    assert before["rate"] > 10 * after["rate"]
    assert after["eta"] == pytest.approx(4 / after["rate"])


def test_a_paused_job_has_no_time_left_and_no_rate_once_nothing_of_it_runs(world: World) -> None:
    world.submit(40)
    world.wait(1.0, b"node")
    given = sorted(index for _, index in world.assigned())
    world.drain((b"client", m.Query(1, "pause", {"id": "job"})), (b"node", world.result(given[0])))
    world.wait(1.0, b"node")
    progress = history_of(world)["progress"]
    assert (progress["rate"] > 0, progress["eta"]) == (True, None)
    world.drain(*((b"node", world.result(index)) for index in given[1:]))
    world.wait(1.0, b"node")
    assert history_of(world)["progress"] == {"rate": 0.0, "eta": None}


def test_a_run_is_told_with_node_slot_and_times(world: World) -> None:
    world.submit(4)
    world.drain((b"node", ran(2)))
    [run] = history_of(world)["runs"]
    assert {name: run[name] for name in ("node", "slot", "attempt", "first", "tasks")} == {
        "node": "node",
        "slot": 1,
        "attempt": 1,
        "first": 2,
        "tasks": 1,
    }
    assert run["begun"] == world.now - 1.0 + 1e6
    assert (run["seconds"], run["cpu"], run["peak"], run["nbytes"]) == (0.5, 0.4, 20_480, 77)
    assert history_of(world)["durations"] == [[0.5, 1]]


def test_a_run_is_told_with_when_it_came_and_was_sent_and_what_it_was_given(world: World) -> None:
    world.submit(2, closed=False)
    submitted = world.now
    world.wait(3.0, b"node")
    world.submit(2, first=2)
    world.wait(2.0, b"node")
    world.drain((b"node", ran(1)), (b"node", ran(3)))
    early, late = history_of(world)["runs"]
    assert (early["queued"], late["queued"]) == (submitted + 1e6, world.now - 2.0 + 1e6)
    assert (early["sent"], early["given"]) == (early["begun"] - 0.25, 99)


def test_a_failure_is_told_with_its_run(world: World) -> None:
    world.submit(4)
    figures = [1, 1, 1, 900_000, 500_000, 0, 0, 9, 0, 5, 1]
    world.drain((b"node", failed(0, "bad")), (b"node", failed(1, "bad")))
    world.drain((b"node", m.Ran([m.RunGroup("job", 1, figures)], [])))
    first, second = history_of(world)["failures"]["first"]
    assert first["run"] is None
    run = second["run"]
    assert (run["slot"], run["seconds"], run["sent"], run["given"]) == (1, 0.5, None, 5)


def test_a_node_has_no_say_about_jobs_that_it_was_given_nothing_of(world: World) -> None:
    world.submit(4)
    world.node(b"idle")
    world.core.state.jobs["job"].known_by.discard(world.core.state.fleet.by_peer[b"idle"])
    world.drain((b"idle", ran(2)))
    assert not (history_of(world) or {"runs": []})["runs"]


def test_failures_are_grouped_with_numbers_folded(world: World) -> None:
    world.submit(6)
    for index, text in enumerate(
        ["sensor 3 at 0xff", "sensor 14 at 0x1", "other", "sensor 2.5 at 0"]
    ):
        world.drain((b"node", failed(index, text)))
    groups = history_of(world)["failures"]["groups"]
    assert [(group["message"], group["count"], group["tasks"]) for group in groups] == [
        ("sensor 3 at 0xff", 3, [0, 1, 3]),
        ("other", 1, [2]),
    ]
    assert groups[0]["traceback"] == "Traceback of 0"
    first = history_of(world)["failures"]["first"][0]
    assert (first["task"], first["node"], first["what"]) == (0, "node", "failed")
    assert first["error"] == "ValueError: sensor 3 at 0xff"


def test_what_tasks_raised_is_for_the_owner_and_for_admins(world: World) -> None:
    world.submit(2)
    world.drain((b"node", failed(0, "secret")))
    told = history_of(world, commands=False)
    assert "secret" not in repr(told)
    assert told["failures"]["counts"] == {"failed": 1}
    world.drain((b"node", world.result(1)))
    world.wait(3.0, b"node")
    world.restart()
    assert "secret" in repr(history_of(world))
    assert "secret" not in repr(history_of(world, commands=False))


def test_retried_and_crashed_attempts_are_told(world: World) -> None:
    world.submit(2, retries=3)
    world.drain((b"node", failed(0, "flaky")))
    death = Failure("manyhands.TaskCrashed", "child 7 was killed").encode()
    world.drain((b"node", world.result(1, status=Status.CRASHED, body=death)))
    found = history_of(world)["failures"]
    assert found["counts"] == {"retried": 1, "crashed": 1}
    assert [(one["task"], one["what"]) for one in found["first"]] == [
        (0, "retried"),
        (1, "crashed"),
    ]


def test_the_journal_keeps_the_history_of_a_durable_job_with_its_last_runs(world: World) -> None:
    world.submit(2)
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    world.wait(0.6, b"node")
    world.drain((b"node", ran(1)))
    world.wait(1.0, b"node")
    assert [record.job for record in world.records if isinstance(record, r.JobRemembered)] == [
        "job"
    ]
    world.restart()
    found = history_of(world)
    assert found["timeline"][-1][1:] == [0, 0, 2, 0, 0]
    assert [run["first"] for run in found["runs"]] == [1]


def test_a_forgotten_job_leaves_nothing(world: World) -> None:
    world.submit(2)
    world.drain((b"node", failed(0, "secret")), (b"node", world.result(1)))
    world.wait(2.0, b"node")
    assert world.core.state.histories.get("job") is not None
    world.drain((b"client", m.Query(1, "forget", {"id": "job"})))
    world.wait(1.0, b"node")
    assert world.core.state.histories.get("job") is None
    assert world.journal.history("job") is None


def test_a_new_job_of_the_same_id_begins_anew(world: World) -> None:
    world.submit(2, durable=False)
    world.drain((b"node", failed(0, "old")), (b"node", failed(1, "old")))
    world.wait(3.0, b"node")
    assert history_of(world)["failures"]["counts"] == {"failed": 2}
    world.client(b"second")
    world.submit(2, durable=False, peer=b"second")
    world.wait(1.0, b"node")
    assert history_of(world)["failures"]["counts"] == {}


def test_lone_calls_do_not_push_out_what_is_kept_of_jobs(world: World) -> None:
    world.submit(2, job="large")
    world.wait(1.0, b"node")
    for index in range(2):
        world.drain((b"node", world.result(index, job="large")))
    for number in range(3):
        world.submit(1, job=f"lone{number}", durable=False)
        world.wait(1.0, b"node")
        world.drain((b"node", world.result(0, job=f"lone{number}")))
        world.drain((b"node", ran(0, 0.001, job=f"lone{number}")))
    assert history_of(world, "lone1") == {}
    assert history_of(world, "large")["timeline"]
    # Those who look on see them all the same.
    assert [run.job for run in world.core.state.histories.recent] == ["lone0", "lone1", "lone2"]


# Bounds


def test_arrivals_have_a_bound_and_the_latest_are_exact() -> None:
    kept = arrivals.Arrivals(5.0)
    for number in range(1, 10_000):
        kept.add(number * 10, 5.0 + number)
    assert (kept.of(0), kept.of(9)) == (5.0, 5.0)
    assert [kept.of(task) for task in (99_990, 99_989, 99_000)] == [10_004.0, 10_003.0, 9_905.0]
    assert kept.of(50_000) == pytest.approx(5_005.0, abs=10_000 / arrivals.MOST_ARRIVALS * 2)
    assert len(kept) <= 2 * arrivals.MOST_ARRIVALS
    kept.add(7, 20_000.0)
    assert kept.of(7) == 5.0, "a copy of what came before changes nothing"


def test_of_runs_that_failed_the_first_are_kept() -> None:
    kept = Runs()
    for number in range(1_000):
        kept.add(Run(number, "job", "node", 0, 1, number, 1, 1.0, 0.01, 0.0, 0, 0, failed=1))
    assert [run.first for run in kept.failed] == list(range(runs.MOST_FAILED))
    assert kept.of_failure(99, 1, "node") == kept.failed[99]
    assert [
        kept.of_failure(*other) for other in ((99, 2, "node"), (99, 1, "else"), (100, 1, "node"))
    ] == [None] * 3


def test_a_timeline_keeps_its_ends_and_a_bounded_number_of_rows() -> None:
    line = Timeline()
    for second in range(100_000):
        line.add(second, second * 3)
    assert len(line.rows) <= timeline.MOST_BUCKETS
    assert [line.rows[0], line.rows[-1]] == [(0, 0), (99_999, 299_997)]
    assert line.rate(1, 1_000, 99_999.0) == pytest.approx(3.0)
    times = [row[0] for row in line.rows]
    assert times == sorted(times)


def test_runs_keep_a_sample_and_the_slowest() -> None:
    kept = Runs()
    for number in range(20_000):
        seconds = 5.0 if number == 7_777 else 0.01
        kept.add(Run(number, "job", "node", 0, 1, number, 1, float(number), seconds, 0.0, 0, 0))
    assert len(kept.sampled) <= runs.MOST_SAMPLED
    assert kept.slowest[0].first == 7_777
    assert kept.tasks == 20_000
    assert (kept.durations()[0], kept.durations()[-1]) == ((2.0**-6, 19_999), (8.0, 1))


def test_failures_are_looked_into_a_bounded_number_of_times_a_second() -> None:
    kept = failures.Failures()
    for number in range(5_000):
        text = "x" * (number % 250) + "y" * 100_000
        failure = Failure("E", text, traceback=text) if kept.looks(1.0) else None
        kept.add("failed", (number, 1), "node", 1.0, failure)
    assert kept.counts["failed"] == 5_000
    assert len(kept.first) == failures.MOST_FAILURES
    assert len(kept.groups) == failures.MOST_GROUPS
    assert sum(group.count for group in kept.groups.values()) + kept.others == 5_000
    size = sum(sys.getsizeof(g.message) + sys.getsizeof(g.traceback) for g in kept.groups.values())
    assert size < 200_000


def test_the_number_of_histories_has_a_bound() -> None:
    world = World()
    world.inspected = False
    world.client()
    for number in range(histories.MOST_JOBS + 20):
        world.submit(2, job=f"job{number}", durable=False)
        world.now += 0.6
        world.drain()
    kept = [n for n in range(histories.MOST_JOBS + 20) if world.core.state.histories.get(f"job{n}")]
    assert len(kept) == histories.MOST_JOBS
    assert kept[-1] == histories.MOST_JOBS + 19


def test_those_who_look_on_get_an_even_part_of_what_is_new() -> None:
    kept = Histories()
    kept.ran(None, "node", m.RunGroup("job", 1, [0, 1, 0, 0, 1, *[0] * 6] * 1_000), 1.0)
    assert [run.seq for run in kept.since(990, 100)] == list(range(991, 1_001))
    some = kept.since(0, 100)
    assert len(some) == 100
    assert some[-1].seq == 1_000
    assert kept.since(1_000, 100) == []


def test_of_very_many_runs_an_even_part_is_taken_and_the_slowest(world: World) -> None:
    world.submit(4)
    many = [0, 1, 0, 0, 10_000, *[0] * 6] * 1_000

    def tell(*slow: int) -> None:
        for number in range(10):
            extra = [7, 1, 0, 0, slow[number], *[0] * 6] if number < len(slow) else []
            figures = [*many, *extra]
            world.drain((b"node", m.Ran([m.RunGroup("job", 1, figures)], [])))

    tell()
    assert history_of(world)["sampled"]["tasks"] == 10_000
    world.wait(1.0, b"node")
    tell(70_000, 80_000)
    found = history_of(world)
    # Ten thousand in half a second are five times what is taken in.
    assert found["sampled"]["tasks"] == pytest.approx(10_000 + 10_000 / 6, abs=2)
    assert [run["seconds"] for run in found["slowest"]][:3] == [0.08, 0.07, 0.01]
    world.wait(1.0, b"node")
    world.wait(1.0, b"node")
    tell()
    assert history_of(world)["sampled"]["tasks"] == pytest.approx(20_000 + 10_000 / 6, abs=2)
