"""Chains of jobs as long as users like; and what breaks inside the broker for one job."""

from __future__ import annotations

import pytest

from harness.worlds.broker import FUNCTION, World
from manyhands_broker.core import Limits
from manyhands_broker.core.dependencies import Dependencies
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.store import Damaged, StoredResults, StoreFailed
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

LONG = 10_000


def chain(world: World, count: int, **first: object) -> None:
    """Submit jobs that come each after the one before; `first` are options of the first."""
    groups = [m.SubmitGroup("0", FUNCTION, {"durable": True, **first}, 0, True, [b"x"])]
    groups += [
        m.SubmitGroup(str(n), FUNCTION, {"durable": True, "after": [str(n - 1)]}, 0, True, [b"x"])
        for n in range(1, count)
    ]
    world.inspected = False
    world.drain((b"client", m.Function(FUNCTION, "f", [b"code"])), (b"client", m.Submit(groups)))


def left(world: World, seconds: float = 5.0) -> int:
    """How many jobs are not over after some time."""
    world.wait(seconds)
    world.core.validate()
    return len(world.core.state.jobs)


def states(world: World) -> set[str]:
    finished = world.core.state.finished_jobs
    return {str(finished[job_id]["state"]) for job_id in finished}


def test_a_long_chain_is_cancelled_as_a_whole(world: World) -> None:
    chain(world, LONG)
    world.drain((b"client", m.Cancel([m.Span("0", 0, [])])))
    assert left(world) == 0
    assert states(world) == {"cancelled"}


@pytest.mark.parametrize("restart", [False, True])
def test_a_deadline_ends_all_that_comes_after(world: World, restart: bool) -> None:
    chain(world, LONG, deadline=3.0)
    if restart:
        world.restart(after=60.0)
    assert left(world) == 0
    assert states(world) == {"failed", "cancelled"}
    world.restart()
    assert left(world) == 0
    assert len(world.core.state.finished_jobs) == LONG


def test_many_jobs_after_one_all_end_with_it(world: World) -> None:
    options = {"durable": True, "after": ["0"]}
    groups = [m.SubmitGroup(f"c{n}", FUNCTION, options, 0, True, [b"x"]) for n in range(LONG)]
    chain(world, 1)
    world.drain((b"client", m.Submit(groups)))
    world.drain((b"client", m.Cancel([m.Span("0", 0, [])])))
    assert left(world) == 0


def test_what_ends_is_told_a_few_at_a_time(world: World) -> None:
    chain(world, LONG)
    world.drain((b"client", m.Cancel([m.Span("0", 0, [])])))
    assert len(world.core.state.jobs) > LONG / 2, "a drain must not take a second"


class Odd(MemoryJournal):
    """Cannot read what belongs to the job ``bad``."""

    error: Exception = ZeroDivisionError("division by zero")

    def results(self, job: str, after: int, limit: int) -> list[StoredResults]:
        if job == "bad":
            raise self.error
        return super().results(job, after, limit)

    def bodies(self, job: str, first: int, stop: int) -> list[Payload | Damaged]:
        if job == "bad":
            raise self.error
        return super().bodies(job, first, stop)


@pytest.fixture
def odd() -> World:
    """A world in which the job ``bad`` breaks something, and nothing fits into memory."""
    world = World(Limits(lease=10.0, resident_bytes=0), Odd())
    world.broken = True
    world.client()
    return world


def told(world: World, job: str) -> list[str]:
    """The messages with which a client's tasks of a job have failed."""
    return [
        Failure.decode(body).message
        for message in world.take(b"client", m.Results)
        for group in message.groups
        for status, body in zip(group.statuses, group.bodies, strict=True)
        if group.job == job and status
    ]


def test_a_job_that_breaks_a_drain_ends_with_the_cause(odd: World) -> None:
    odd.submit(3, "bad")
    odd.submit(3, "good")
    odd.drain((b"client", m.Attach("good")))
    odd.wait(0.1)
    odd.node()
    assert {job for job, _ in odd.assigned()} == {"good"}
    assert odd.ask("job", id="bad")["state"] == "failed"
    counters = odd.core.state.counters
    assert (counters["internal_errors"], counters["jobs_broken"]) == (1, 1)
    [line] = [text for text in odd.said if "a bug" in text]
    assert "ZeroDivisionError: division by zero" in line


def test_a_job_that_breaks_a_timer_ends_with_the_cause(odd: World) -> None:
    odd.node()
    odd.submit(1, "bad")
    odd.core.state.jobs["bad"].chunks[0].payloads[0] = b"here"  # so that it runs
    odd.submit(2, "heir", after=["bad"])
    odd.submit(2, "good")
    odd.drain((b"client", m.Attach("heir")))
    odd.wait(0.1, b"node")
    assert ("bad", 0) in odd.assigned()
    odd.drain((b"node", odd.result(0, job="bad")))
    odd.wait(1.0, b"node")
    assert "ZeroDivisionError" in told(odd, "heir")[0]
    assert odd.ask("job", id="heir")["failed"] == 2
    assert odd.ask("job", id="good")["state"] in ("queued", "running")


def test_a_job_that_breaks_when_a_parent_ends_ends_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Dependencies._followed

    def followed(self: Dependencies, job: Job, parent: str, state: str) -> None:
        if job.id == "bad":
            raise ZeroDivisionError
        real(self, job, parent, state)

    monkeypatch.setattr(Dependencies, "_followed", followed)
    world.broken = True
    world.submit(1, "parent")
    for name in ("bad", "good"):
        world.submit(2, name, after=["parent"])
    world.drain((b"client", m.Cancel([m.Span("parent", 0, [])])))
    assert left(world) == 0
    assert world.core.state.counters["jobs_broken"] == 1
    [line] = [text for text in world.said if "a bug" in text]
    assert "ZeroDivisionError" in line


def test_the_same_failure_is_logged_once(odd: World) -> None:
    for number in range(5):
        odd.submit(1, "bad")
        odd.wait(2.0)
        node = b"node%d" % number
        odd.node(node)
        assert "bad" in odd.core.state.finished_jobs
        odd.drain((node, m.Bye("done")), (b"client", m.Query(1, "forget", {"id": "bad"})))
    assert odd.core.state.counters["jobs_broken"] == 5
    assert len([text for text in odd.said if "ZeroDivisionError" in text]) == 1


def test_a_store_that_fails_as_a_whole_is_no_jobs_failure(odd: World) -> None:
    odd.journal.error = StoreFailed("the disk is gone")  # type: ignore[attr-defined]
    odd.submit(1, "bad")
    odd.wait(0.1)
    with pytest.raises(StoreFailed):
        odd.node()


def test_a_job_whose_attempts_are_used_up_ends(world: World) -> None:
    world.broken = True
    world.submit(2)
    world.submit(1, "good")
    world.drain((b"client", m.Attach("job")))
    world.core.state.jobs["job"].chunks[0].attempts[0] = (1 << 32) - 1
    world.node()
    world.wait(1.0, b"node")
    assert world.results() == [("job", 0, Status.LOST), ("job", 1, Status.LOST)]
    assert ("good", 0) in world.assigned()
