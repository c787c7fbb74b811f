"""What of attached jobs outlives the broker, and what of durable ones: pauses, deadlines, counts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import FUNCTION, World
from manyhands_broker.core import Limits
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

CRASH = Failure("manyhands.TaskCrashed", "its process was killed by SIGSEGV").encode()


@pytest.fixture
def world() -> World:
    world = World()
    world.client()
    return world


def told(world: World, peer: bytes = b"client") -> tuple[list[m.JobStanding], list[m.TaskStanding]]:
    standings = world.take(peer, m.Standing)
    return (
        [job for standing in standings for job in standing.jobs],
        [task for standing in standings for task in standing.tasks],
    )


def again(world: World, count: int, *standings: m.Standing, **options: object) -> None:
    """The broker is started anew, and the client submits its job with what it was told."""
    world.restart()
    world.client()
    bodies: list[Payload] = [b"arg%d" % index for index in range(count)]
    group = m.SubmitGroup("job", FUNCTION, options, 0, True, bodies)
    world.drain(
        (b"client", m.Function(FUNCTION, "f", [b"code"])),
        *((b"client", standing) for standing in standings),
        (b"client", m.Submit([group])),
    )


def test_a_paused_job_stays_paused(world: World) -> None:
    world.submit(3, durable=False)
    world.client(b"other")
    world.ask("pause", peer=b"other", id="job")
    [job], _ = told(world)
    assert (job.job, job.paused, job.cancelled) == ("job", True, 0)
    again(world, 3, m.Standing([job], []))
    world.node()
    assert world.ask("job", id="job")["state"] == "paused"
    assert not world.assigned()
    world.ask("resume", id="job")
    assert told(world)[0][0].paused is False
    assert world.run_all() == 3


def test_a_deadline_counts_from_the_first_submission(world: World) -> None:
    world.submit(1, durable=False, deadline=8.0)
    again(world, 1, m.Standing([m.JobStanding("job", 6.0, False, 0)], []), deadline=8.0)
    submitted = world.ask("job", id="job")["submitted"]
    assert submitted == pytest.approx(world.now + 1e6 - 6.0)
    world.wait(1.5)
    assert not world.results()
    world.wait(1.0)
    assert world.results() == [("job", 0, Status.TIMED_OUT)]


def test_a_deadline_that_has_passed_meanwhile_starts_nothing(world: World) -> None:
    world.node()
    again(world, 2, m.Standing([m.JobStanding("job", 60.0, False, 0)], []), deadline=8.0)
    world.node()
    assert world.results() == [("job", 0, Status.TIMED_OUT), ("job", 1, Status.TIMED_OUT)]
    assert not world.assigned()


def test_tries_are_counted_on(world: World) -> None:
    options: dict[str, Any] = {"retries": 2, "retry_delay": 0.0}
    world.node()
    world.submit(1, durable=False, **options)
    for attempt, tries in ((1, 1), (2, 2)):
        world.wait(0.1, b"node")
        assert world.assigned()["job", 0][0] == attempt
        world.drain((b"node", world.result(0, attempt, status=Status.RAISED)))
        _, [task] = told(world)
        assert (task.index, task.tries, task.story) == (0, tries, "")
    again(world, 1, m.Standing([m.JobStanding("job", 1.0, False, 0)], [task]), **options)
    world.node()
    world.wait(1.0, b"node")
    [(attempt, _)] = world.assigned().values()
    world.drain((b"node", world.result(0, attempt, status=Status.RAISED)))
    assert world.results() == [("job", 0, Status.RAISED)], "it was its third run"


def test_what_was_counted_is_not_counted_again_when_a_node_brings_it_back(world: World) -> None:
    options: dict[str, Any] = {"retries": 1, "retry_delay": 0.0}
    world.node()
    world.submit(1, durable=False, **options)
    failed = world.result(0, status=Status.RAISED)
    world.drain((b"node", failed))
    _, [task] = told(world)
    assert task.attempt == 1
    world.restart()
    # The node has not heard that its result was taken.
    world.node(holding=[m.Span("job", 1, [0])])
    world.drain((b"node", failed))
    world.client()
    group = m.SubmitGroup("job", FUNCTION, options, 0, True, [b"arg0"])
    world.drain(
        (b"client", m.Function(FUNCTION, "f", [b"code"])),
        (b"client", m.Standing([m.JobStanding("job", 1.0, False, 0)], [task])),
        (b"client", m.Submit([group])),
    )
    world.wait(1.0, b"node")
    assert not world.results()
    [(attempt, _)] = world.assigned().values()
    assert attempt == 2
    world.drain((b"node", world.result(0, attempt)))
    assert world.results() == [("job", 0, Status.OK)]


def test_crashes_are_counted_on(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    assert world.assigned()
    world.drain((b"node", world.result(0, status=Status.CRASHED, body=CRASH)))
    _, [task] = told(world)
    assert "SIGSEGV" in task.story
    again(world, 1, m.Standing([m.JobStanding("job", 1.0, False, 0)], [task]))
    world.node()
    world.wait(1.0, b"node")
    [(attempt, _)] = world.assigned().values()
    world.drain((b"node", world.result(0, attempt, status=Status.CRASHED, body=CRASH)))
    [message] = world.take(b"client", m.Results)
    failure = Failure.decode(message.groups[0].bodies[0])
    assert message.groups[0].statuses == bytes([Status.CRASHED])
    assert len(failure.story) == 2
    assert "SIGSEGV" in failure.story[0]


def test_a_job_that_another_has_cancelled_is_known_to_its_client(world: World) -> None:
    world.node()
    world.submit(5, durable=False)
    world.client(b"other")
    world.drain((b"other", m.Cancel([m.Span("job", 0, [])])))
    [job], _ = told(world)
    assert job.cancelled == 5


def test_all_is_told_again_over_a_new_link(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    world.drain((b"node", world.result(0, status=Status.CRASHED, body=CRASH)))
    world.ask("pause", id="job")
    told(world)
    hello = m.ClientHello(1, b"client".ljust(16, b"."), "client", 0, 0, {})
    world.drain((b"second", hello))
    [job], [task] = told(world, b"second")
    assert job.paused
    assert (task.index, task.story.count("\n")) == (0, 0)


def test_a_standing_cannot_grow_the_broker() -> None:
    world = World(Limits())
    world.client()
    for number in range(200):
        tasks = [m.TaskStanding(f"job-{number}", index, 1, 1, "x") for index in range(4_000)]
        jobs = [m.JobStanding("job", 1.0, False, 0), m.JobStanding(f"job-{number}", 0.0, True, 0)]
        world.drain((b"client", m.Standing(jobs, tasks)))
    [session] = world.core.state.sessions.values()
    parts = sum(1 + len(tasks) for _, tasks in session.standings.values())
    assert parts == session.standing_parts <= 1 << 18


# Durable


def test_a_durable_job_counts_tries_on(world: World) -> None:
    world.node()
    world.submit(1, retries=1, retry_delay=0.0)
    world.drain((b"node", world.result(0, status=Status.RAISED)))
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    [(attempt, _)] = world.assigned().values()
    world.drain((b"node", world.result(0, attempt, status=Status.RAISED)))
    world.client()
    assert world.ask("job", id="job")["failed"] == 1


def test_a_durable_job_counts_crashes_on_and_keeps_their_story(world: World) -> None:
    world.node()
    world.submit(2)
    world.drain((b"node", world.result(0, status=Status.CRASHED, body=CRASH)))
    world.restart()
    world.client()
    assert "SIGSEGV" in world.ask("job", id="job")["story"][0]
    world.node()
    world.wait(1.0, b"node")
    attempts = {index: attempt for (_, index), (attempt, _) in world.assigned().items()}
    world.drain((b"node", world.result(0, attempts[0], status=Status.CRASHED, body=CRASH)))
    world.drain((b"node", world.result(1, attempts[1])))
    found = world.ask("job", id="job")
    assert (found["state"], found["failed"], len(found["story"])) == ("failed", 1, 2)
    world.restart()
    world.client()
    assert len(world.ask("job", id="job")["story"]) == 2


def test_a_durable_deadline_and_pause_outlive_the_broker(world: World) -> None:
    world.submit(1, deadline=8.0)
    world.ask("pause", id="job")
    world.restart(after=6.0)
    world.client()
    assert world.ask("job", id="job")["state"] == "paused"
    world.wait(2.5)
    assert world.ask("job", id="job")["failed"] == 1


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_that_failed_by_crashes_shows_its_story(world: World, durable: bool) -> None:
    world.node()
    world.submit(1, durable=durable)
    for _ in range(2):
        [(attempt, _)] = world.assigned().values()
        world.drain((b"node", world.result(0, attempt, status=Status.CRASHED, body=CRASH)))
    found = world.ask("job", id="job")
    assert found["state"] == "failed"
    assert [line.partition(":")[0] for line in found["story"]] == ["task 0", "task 0"]
    assert "SIGSEGV" in found["story"][1]
