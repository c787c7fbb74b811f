"""Tasks that wait for an environment: they hold nothing that others could use."""

from __future__ import annotations

from typing import Any

from harness.worlds.worker import World
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import requirements
from manyhands_shared.protocol.failure import ENVIRONMENT_FAILED, Failure
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import effects, events
from manyhands_worker.core.environments import FAILED_SECONDS

LINES = ["sums==1.0"]
DIGEST = requirements.digest(LINES)
OPTIONS: dict[str, Any] = {"requirements": LINES}


def made(world: World) -> list[effects.MakeEnvironment]:
    return [effect for effect in world.effects if isinstance(effect, effects.MakeEnvironment)]


def ended(world: World) -> list[tuple[Status, Failure]]:
    return [
        (Status(group.statuses[0]), Failure.decode(group.bodies[0]))
        for message in world.unacknowledged
        for group in message.groups
        for _ in group.indices
    ]


def pass_time(world: World, seconds: float) -> None:
    """Let time pass; the broker renews the lease."""
    end = world.now + seconds
    while world.now < end:
        world.tick(1.0)
        for renewal in [message for message in world.sent if isinstance(message, m.Renew)][-1:]:
            world.say(m.Lease(renewal.counter))


def test_tasks_wait_for_their_environment_and_hold_no_slot() -> None:
    world = World(slots=2)
    world.connect()
    world.assign(0, 1, 2, 3, 4, options=OPTIONS)
    assert made(world) == [effects.MakeEnvironment(DIGEST, ("sums==1.0",), frozenset())]
    assert world.last(m.Making) == m.Making(DIGEST, b"")
    world.tick()
    # As many as there are slots; the others can have the rest.
    assert world.last(m.Returned).spans == [m.Span("j", 1, [2, 3, 4])]
    assert world.active() == 2
    # They count as more slots, so that the broker gives the node others.
    assert world.last(m.Renew).slots == 4
    world.assign(0, 1, job="other")
    world.tick()
    assert {key[0] for given in world.given.values() for _, key, _ in given} == {"other"}
    world.tell(events.EnvironmentMade(DIGEST))
    assert world.last(m.Making) == m.Making(b"", b"")
    for slot in (0, 1):
        world.finish(slot)
    world.tick()
    # A child in the environment takes the place of one outside.
    assert {key[0] for given in world.given.values() for _, key, _ in given} == {"j"}
    assert world.last(m.Renew).slots == 2
    # It is made once.
    world.assign(0, job="again", options=OPTIONS)
    assert len(made(world)) == 1


def test_a_slot_serves_one_environment_at_a_time() -> None:
    world = World(slots=1)
    world.connect()
    for job, lines in (("one", ["a"]), ("two", ["b"])):
        world.assign(0, job=job, options={"requirements": lines})
        world.tell(events.EnvironmentMade(requirements.digest(lines)))
    world.tick()
    assert [key[0] for _, key, _ in world.given[0]] == ["one"]
    world.finish(0)
    world.tick()
    assert world.retired == {0}
    world.tell(events.Born(0))
    world.tick()
    assert [key[0] for _, key, _ in world.given[0]] == ["two"]


def test_tasks_fail_whose_environment_cannot_be_made() -> None:
    world = World(slots=2)
    world.connect()
    world.assign(0, 1, options=OPTIONS)
    world.tell(events.EnvironmentMade(DIGEST, "pip install failed (exit code 1):\nno sums"))
    world.tick()
    for status, failure in ended(world):
        assert status is Status.RAISED
        assert failure.type == ENVIRONMENT_FAILED
        assert failure.message == (
            "node unit cannot make the environment that the tasks require: "
            "pip install failed (exit code 1):\nno sums"
        )
    assert len(ended(world)) == 2
    assert world.last(m.Making) == m.Making(b"", DIGEST)
    # The next ones fail at once. After a while they have it tried again.
    world.assign(2, options=OPTIONS)
    world.tick()
    assert len(ended(world)) == 3
    pass_time(world, FAILED_SECONDS)
    assert world.last(m.Making) == m.Making(b"", b"")
    world.assign(3, options=OPTIONS)
    assert len(made(world)) == 2


def test_a_failure_counts_no_more_though_no_task_waited_for_it() -> None:
    world = World(slots=1)
    world.connect()
    world.assign(0, options=OPTIONS)
    world.say(m.Cancel([m.Span("j", 1, [0])]))
    world.tick()
    world.tell(events.EnvironmentMade(DIGEST, "no room"))
    assert world.last(m.Making) == m.Making(b"", DIGEST)
    pass_time(world, FAILED_SECONDS)
    assert world.last(m.Making) == m.Making(b"", b"")


def test_a_failure_is_told_again_over_a_new_link() -> None:
    world = World(slots=1)
    world.connect()
    world.assign(0, options=OPTIONS)
    world.tell(events.EnvironmentMade(DIGEST, "no room"))
    world.tell(events.LinkLost("gone"))
    world.sent.clear()
    world.connect()
    assert world.last(m.Making) == m.Making(b"", DIGEST)


def test_what_is_being_made_is_told_again_over_a_new_link() -> None:
    world = World(slots=2)
    world.connect()
    world.assign(0, options=OPTIONS)
    world.tell(events.LinkLost("gone"))
    world.sent.clear()
    world.connect()
    assert world.last(m.WorkerHello).slots == 2
    assert world.last(m.Making) == m.Making(DIGEST, b"")
    world.tick()
    assert world.last(m.Renew).slots == 3
    assert not any(isinstance(message, m.Need) for message in world.sent)


def test_environments_that_no_task_needs_are_let_go() -> None:
    world = World(slots=1)
    world.connect()
    digests = [requirements.digest([name]) for name in "abc"]
    for name, digest in zip("ab", digests, strict=False):
        world.assign(0, job=name, options={"requirements": [name]})
        world.tell(events.EnvironmentMade(digest))
    world.tick()
    world.finish(0)
    world.assign(0, job="c", options={"requirements": ["c"]})
    # The first has been used, and the second is yet to be.
    assert made(world)[-1].keep == {digests[1]}


def test_one_that_is_being_made_is_kept_though_another_is_wanted() -> None:
    world = World(slots=1)
    world.connect()
    for name in "ab":
        world.assign(0, job=name, options={"requirements": [name]})
    assert made(world)[-1].keep == {requirements.digest(["a"])}


def test_cancelled_tasks_do_not_wait_for_it() -> None:
    world = World(slots=2)
    world.connect()
    world.assign(0, 1, options=OPTIONS)
    world.say(m.Cancel([m.Span("j", 1, [0, 1])]))
    world.tick()
    assert [status for status, _ in ended(world)] == [Status.CANCELLED] * 2
    assert world.core._work.environments.waiting == 0
    world.tell(events.EnvironmentMade(DIGEST))
    world.tick()
    assert not any(world.given.values())


def test_a_node_may_refuse_to_install_anything() -> None:
    world = World(slots=2, environments=False)
    world.connect()
    world.assign(0, options=OPTIONS)
    world.tick()
    [(status, failure)] = ended(world)
    assert status is Status.RAISED
    assert "--no-environments" in failure.message
    assert not made(world)
