"""Jobs as a whole: what comes after what, pausing, cancelling, forgetting, and what is told of them."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import Limits
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status


def test_a_job_comes_after_others_with_their_results(world: World) -> None:
    world.node()
    world.submit(2, "a")
    world.submit(1, "b")
    world.submit(1, "c", after=["a", "b"])
    assert "comes after" in " ".join(world.ask("why", id="c"))
    assert world.run_all() == 3
    assert not world.assigned()
    world.wait(0.1, b"node")
    [given] = world.take(b"node", m.Given)
    assert given.job == "c"
    assert sorted((g.job, i) for g in given.results for i in g.indices) == [
        *(("a", 0), ("a", 1)),
        ("b", 0),
    ]
    assert world.run_all() == 1


@pytest.mark.parametrize("restart", ["never", "before", "after"])
@pytest.mark.parametrize("late", [False, True])
def test_a_failed_parent_fails_its_followers(world: World, restart: str, late: bool) -> None:
    world.node()
    world.submit(1, "a")
    world.assigned()
    if not late:
        world.submit(2, "b", after=["a"])
    if restart == "before":
        world.restart()
        world.client()
        world.node(holding=[m.Span("a", 1, [0])])
    world.drain((b"node", world.result(0, job="a", status=Status.RAISED)))
    if restart == "after":
        world.restart()
        world.client()
    if late:
        world.submit(2, "b", after=["a"])
    world.drain((b"client", m.Attach("b")))
    world.wait(1.0)
    assert sorted(world.results()) == [("b", 0, Status.CANCELLED), ("b", 1, Status.CANCELLED)]
    assert world.ask("job", id="b")["state"] == "cancelled"


def test_dependencies_hold_over_a_restart(world: World) -> None:
    world.submit(1, "a")
    world.submit(1, "b", after=["a"])
    world.restart()
    world.client()
    world.node()
    world.wait(1.0, b"node")
    assert world.run_all() == 1
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    assert len(world.take(b"node", m.Given)) == 1
    assert set(world.assigned()) == {("b", 0)}


def test_what_cannot_come_after_is_rejected(world: World) -> None:
    world.submit(1, "attached", durable=False)
    for parents, durable in ((["none"], True), (["attached"], True), (["a"], False)):
        world.submit(1, "job", after=parents, durable=durable)
        [rejected] = world.take(b"client", m.Rejected)
        assert (rejected.job, rejected.first) == ("job", 0)
        assert rejected.reason


def test_resources_and_why(world: World) -> None:
    world.submit(3, resources={"gpu": 1})
    assert "no node is connected" in world.ask("why", id="job")[0]
    world.node(b"plain")
    assert "no node has what each task takes: gpu=1" in world.ask("why", id="job")[0]
    assert not world.assigned(b"plain")
    world.node(b"rich", slots=4, resources={"gpu": 2})
    assert len(world.assigned(b"rich")) == 2
    assert "busy" in world.ask("why", id="job")[0]
    world.submit(1, "other")
    assert world.assigned(b"plain") or world.assigned(b"rich"), "others are not held up"
    world.drain((b"rich", world.result(0)))
    assert set(world.assigned(b"rich")) == {("job", 2)}


def test_a_paused_job_has_what_waits_on_its_nodes_given_back(world: World) -> None:
    world.node()
    world.submit(1, "other", closed=False)
    world.drain((b"node", world.result(0, job="other")))
    world.assigned()
    # As tasks take 10 ms each, nodes have more of them than they have slots.
    world.submit(2, closed=False)
    world.drain(*((b"node", world.result(index)) for index in range(2)))
    world.assigned()
    world.submit(20, first=2)
    given = [index for _, index in world.assigned()]
    assert len(given) > 2
    world.ask("pause", id="other")
    assert not world.take(b"node", m.Recall)
    world.ask("pause", id="job")
    assert world.take(b"node", m.Recall) == [m.Recall(len(given) - 2)]
    world.drain((b"node", m.Returned([m.Span("job", 1, given[2:])])))
    assert not world.assigned()
    assert world.ask("job", id="job")["active"] == 2
    world.ask("resume", id="job")
    assert sorted(index for _, index in world.assigned()) == given[2:]


def test_what_is_paused_and_waits_behind_long_tasks_is_given_back(world: World) -> None:
    world.node()
    world.submit(2, closed=False)
    world.drain(*((b"node", world.result(index)) for index in range(2)))
    world.assigned()
    world.submit(20, first=2)
    waiting = len(world.assigned()) - 2
    world.ask("pause", id="job")
    assert world.take(b"node", m.Recall) == [m.Recall(waiting)]
    # The node could not take them from its children yet.
    world.drain((b"node", m.Returned([])))
    world.wait(3.0, b"node")
    assert world.take(b"node", m.Recall) == [m.Recall(waiting)]


def test_pause_and_resume_survive_restarts(world: World) -> None:
    world.submit(1)
    world.ask("pause", id="job")
    world.restart()
    world.client()
    world.node()
    world.wait(2.0, b"node")
    assert not world.assigned()
    assert "paused" in world.ask("why", id="job")[0]
    assert world.ask("job", id="job")["state"] == "paused"
    world.ask("resume", id="job")
    assert len(world.assigned()) == 1
    world.restart()
    world.node()
    world.wait(2.0, b"node")
    assert len(world.assigned()) == 1


@pytest.mark.parametrize("how", ["query", "message"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_cancellation_survives_a_restart(world: World, how: str, closed: bool) -> None:
    world.node()
    world.submit(4, closed=closed)
    world.assigned()
    if how == "query":
        world.ask("cancel", id="job")
    else:
        world.drain((b"client", m.Cancel([m.Span("job", 0, [])])))
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0, 1])]
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0, 1])]) == []
    world.client()
    found = world.ask("job", id="job")
    assert (found["state"], found["cancelled"], found["active"]) == ("cancelled", 4, 0)
    world.submit(1, first=4)
    [rejected] = world.take(b"client", m.Rejected)
    assert rejected.first == 4


def test_a_lost_cancellation_is_sent_again(world: World) -> None:
    world.node()
    world.submit(1)
    world.assigned()
    world.ask("cancel", id="job")
    world.take(b"node", m.Cancel)
    hello = m.WorkerHello(1, "node", b"node".ljust(16, b"_"), 2, 100, [m.Span("job", 1, [0])], {})
    world.drain((b"node2", hello))
    assert world.take(b"node2", m.Cancel)[0].spans == [m.Span("job", 1, [0])]


def test_waiting_tasks_are_cancelled_by_the_chunk_and_those_that_have_ended_left_alone(
    world: World,
) -> None:
    world.node(slots=1)
    world.submit(3_000, durable=False)
    assigned = sorted(index for _, index in world.assigned())
    world.drain((b"node", world.result(0)))
    world.take(b"client", m.Results)
    world.drain((b"client", m.Cancel([m.Span("job", 0, list(range(3_000)))])))
    [cancel] = world.take(b"node", m.Cancel)
    [span] = cancel.spans
    held = [index for index in assigned if index] + [index for _, index in world.assigned()]
    assert span.indices == sorted(held)
    groups = [group for said in world.take(b"client", m.Results) for group in said.groups]
    assert len(groups) <= 4, "one for each run in a chunk, not one for each task"
    ended = [index for group in groups for index in group.indices]
    assert sorted(ended) == sorted(set(range(1, 3_000)) - set(held))
    assert {status for group in groups for status in group.statuses} == {Status.CANCELLED}
    world.core.validate()


def test_forget(world: World) -> None:
    world.node()
    world.submit(1, "a")
    with pytest.raises(LookupError, match="not over"):
        world.ask("forget", id="a")
    world.submit(1, "b", after=["a"])
    world.drain((b"node", world.result(0, job="a")))
    with pytest.raises(LookupError, match="still needed by b"):
        world.ask("forget", id="a")
    world.wait(0.1, b"node")
    world.run_all()
    assert world.ask("forget", id="a") == {"id": "a", "forgotten": True}
    with pytest.raises(LookupError, match="no job"):
        world.ask("forget", id="a")
    world.restart()
    world.client()
    assert [job["id"] for job in world.ask("jobs")] == ["b"]


def test_old_results_are_swept(world: World) -> None:
    world.limits = Limits(keep_results=1_000.0, lease=1e6)
    world.restart()
    world.client()
    world.node()
    world.submit(1, "old")
    world.submit(1, "needed")
    world.submit(1, "heir", after=["needed"])
    world.run_all()
    world.ask("pause", id="heir")
    world.now += 900.0
    world.submit(1, "new")
    world.run_all()
    world.now += 200.0
    world.drain()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir", "new"}
    world.restart(after=800.0)
    world.client()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir", "new"}
    world.restart(after=200.0)
    world.client()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir"}


def test_jobs_that_are_over_are_forgotten_in_the_order_in_which_they_ended(world: World) -> None:
    world.node()
    for job in ("late", "early"):
        world.submit(job=job)
    world.assigned()
    world.drain((b"node", world.result(0, job="early")))
    world.wait(30.0, b"node")
    world.drain((b"node", world.result(0, job="late")))
    world.restart()
    assert list(world.core.state.finished_jobs) == ["early", "late"]
    middle = world.core.state.finished_jobs["late"]["ended"] - 1
    assert world.core.state.finished_jobs.ended_before(middle) == ["early"]


def test_output_is_kept(world: World) -> None:
    world.node()
    world.submit(1)
    world.drain((b"node", m.Output("job", 1, 0, "hello\n")))
    world.drain((b"node", m.Output("none", 1, 0, "no task's")))
    world.restart()
    world.client()
    text = {"position": 1, "index": 0, "attempt": 1, "text": "hello\n"}
    assert world.ask("output", id="job") == [text]
    with pytest.raises(LookupError, match="no job"):
        world.ask("output", id="none")


def test_jobs_are_told_a_page_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands_broker.core.queries.answers.PAGE_JOBS", 4)
    world.node()
    for number in range(9):
        world.submit(job=f"{'ab'[number % 2]}{number}")
        if number < 6:
            world.assigned()
            world.drain((b"node", world.result(0, job=f"{'ab'[number % 2]}{number}")))
    pages = [[job["id"] for job in world.ask("jobs", skip=skip)] for skip in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 1, 0]
    assert {job for page in pages for job in page} == {f"{'ab'[n % 2]}{n}" for n in range(9)}
    assert {job["id"] for job in world.ask("jobs", begins="b")} == {"b1", "b3", "b5", "b7"}
    assert [job["id"] for job in world.ask("jobs", begins="a2")] == ["a2"]
    assert len(world.ask("jobs", limit=2)) == 2
    assert len(world.ask("jobs", limit=1_000)) == 4
    assert world.ask("jobs", limit=0) == []
