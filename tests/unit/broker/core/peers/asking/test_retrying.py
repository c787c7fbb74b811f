"""Failed tasks once more, by the broker alone: which run, in what order, and when there are none."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status


def fail(world: World, count: int, good: int = -1) -> None:
    """Have a job of `count` tasks end: all fail, but for task `good`."""
    world.node()
    world.submit(count)
    while given := world.assigned():
        world.drain(
            *(
                (b"node", world.result(i, n, j, Status.OK if i == good else Status.RAISED))
                for (j, i), (n, _) in given.items()
            )
        )


@pytest.mark.parametrize("restart", [False, True])
def test_what_failed_runs_again_in_order(world: World, restart: bool) -> None:
    fail(world, 4, good=1)
    if restart:
        world.restart()
        world.node()
        world.client()
    again = world.ask("retry", id="job")
    assert again["tasks"] == 3
    assert world.ask("job", id=again["id"])["tasks"] == 3
    bodies = {}
    while given := world.assigned():
        bodies.update({index: body for (_, index), (_, body) in given.items()})
        world.drain(*((b"node", world.result(i, n, j)) for (j, i), (n, _) in given.items()))
    assert bodies == {0: b"arg0", 1: b"arg2", 2: b"arg3"}
    found = world.ask("job", id=again["id"])
    assert (found["state"], found["done"], found["durable"]) == ("done", 3, True)


def test_a_long_job_is_run_again_in_parts(world: World) -> None:
    world.submit(6_000)
    world.ask("cancel", id="job")
    again = world.ask("retry", id="job", new_id="again")
    assert again == {"id": "again", "tasks": 6_000}
    assert world.ask("job", id="again")["open"]
    for _ in range(4):
        world.wait(0.1)
    found = world.ask("job", id="again")
    assert (found["open"], found["tasks"], found["queued"]) == (False, 6_000, 6_000)


def test_a_long_job_that_is_cancelled_meanwhile_gets_no_more(world: World) -> None:
    world.submit(6_000)
    world.ask("cancel", id="job")
    world.ask("retry", id="job", new_id="again")
    world.ask("cancel", id="again")
    world.wait(0.1)
    found = world.ask("job", id="again")
    assert found["state"] == "cancelled"
    assert found["tasks"] < 6_000


def test_an_order_that_comes_twice_makes_one_job(world: World) -> None:
    fail(world, 2)
    first = world.ask("retry", id="job", new_id="again")
    assert world.ask("retry", id="job", new_id="again") == first
    assert [job["id"] for job in world.ask("jobs")] == ["again", "job"]


def test_what_cannot_be_run_again_is_said(world: World) -> None:
    world.node()
    world.submit(1, "good")
    world.submit(1, "attached", durable=False)
    assert world.run_all() == 2
    world.submit(1, "live")
    for job, words in (
        ("good", "no task of job good failed"),
        ("attached", "was not durable"),
        ("live", "is not over yet"),
        ("none", "no job 'none'"),
    ):
        with pytest.raises(LookupError, match=words):
            world.ask("retry", id=job)


def test_only_its_owner_and_admins_run_a_job_again() -> None:
    world = KeyedWorld()
    world.join(b"ada", key("ada"))
    world.join(b"grace", key("grace"))
    world.join(b"root", key("root", "admin"))
    world.say(b"ada", function(), submit("job", [b"x"], durable=True))
    world.say(b"ada", m.Query(1, "cancel", {"id": "job"}))
    question = m.Query(2, "retry", {"id": "job"})
    [refused] = [one for one in world.say(b"grace", question) if isinstance(one, m.Reply)]
    assert "takes an admin's key, or its owner's" in refused.error
    for peer in (b"ada", b"root"):
        [reply] = [one for one in world.say(peer, question) if isinstance(one, m.Reply)]
        assert reply.error == ""
        owner = world.core.state.owner(reply.data["id"])
        assert owner == key("ada").account("")
