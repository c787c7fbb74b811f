"""The pure core: any order of events leaves every task in exactly one place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.worlds.worker import World
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core import effects, events
from manyhands_worker.core.leased_link import WELCOME_SECONDS, Phase

_DIGEST = b"d" * 16


def _ended(world: Any) -> list[tuple[int, int]]:
    return [
        (index, status)
        for message in world.sent
        if isinstance(message, m.Results)
        for group in message.groups
        for index, status in zip(group.indices, group.statuses, strict=True)
    ]


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A node that the broker has welcomed."""
    return make_world()


def phase(world: World) -> Phase:
    """The core's phase, which the type checker must not take for what it was."""
    return world.core.phase


def test_a_lone_task_goes_out_and_comes_back_in_one_turn_each(world: World) -> None:
    world.assign(7)
    world.tick()
    assert [index for _, _, index in world.given[0]] == [7]
    world.finish(0)
    world.tick()
    assert _ended(world) == [(7, Status.OK)]


def test_batches_grow_with_what_is_learned(world: World) -> None:
    world.assign(*range(3_000))
    world.tick()
    assert [len(world.given[slot]) for slot in (0, 1)] == [1, 1]
    world.finish(0)
    world.finish(1)
    world.tick()
    assert len(world.given[0]) == 2 * 512
    world.finish(0, 512, seconds=1.0)  # suddenly slow
    world.finish(1, 512, seconds=1.0)
    world.finish(0, 512, seconds=1.0)
    world.tick()
    assert len(world.given[0]) == 1


def test_nothing_is_started_while_the_broker_is_far_behind(world: World) -> None:
    world.assign(*range(3))
    world.tick()
    world.given[0].clear()
    world.tell(events.Finished(0, 1, bytes([0]), [(b"",)], 1.0, 600 << 20, 1))
    world.tick()
    assert not world.given[0]
    world.say(m.Ack(1))
    world.tick()
    assert world.given[0]


def test_lease_that_runs_out_costs_the_link_before_anything_is_sent(world: World) -> None:
    world.assign(1)
    world.tick()
    world.finish(0)
    world.now += 30  # it was stopped for two leases
    world.tick()
    assert any(isinstance(effect, effects.Reconnect) for effect in world.effects)
    assert not _ended(world)
    world.connect(keep=[])
    world.tick()
    assert not _ended(world)
    assert len(world.core._work) == 0


def test_lease_is_counted_from_the_renewal_that_was_answered(world: World) -> None:
    for _ in range(5):
        world.tick(5.0)
        world.say(m.Lease(world.last(m.Renew).counter))
    assert world.core.phase is Phase.READY
    world.say(m.Lease(1))  # long past
    world.tick(14.9)
    assert phase(world) is Phase.READY
    world.tick(0.2)
    assert phase(world) is Phase.DOWN


def test_no_welcome_makes_a_new_link(fresh_world: World) -> None:
    world = fresh_world
    world.tell(events.LinkUp())
    world.tick(WELCOME_SECONDS)
    assert any(isinstance(effect, effects.Reconnect) for effect in world.effects)


def test_messages_before_the_welcome_do_not_count(fresh_world: World) -> None:
    world = fresh_world
    world.tell(events.LinkUp())
    world.assign(1)
    world.say(m.Ack(5))
    world.say(m.Who(b"x" * 16))
    assert world.core.dropped == 4
    assert len([message for message in world.sent if isinstance(message, m.WorkerHello)]) == 1


def test_unknown_option_fails_the_task_alone(world: World) -> None:
    world.say(m.Assign([m.AssignGroup("j", 1, _DIGEST, {"colour": 3}, [4], [b"x"])]))
    world.assign(5)
    world.tick()
    assert _ended(world) == [(4, Status.RAISED)]
    assert [index for _, _, index in world.given[0]] == [5]


def test_a_child_that_reports_nonsense_is_killed(world: World) -> None:
    world.assign(1)
    world.tick()
    world.tell(events.Finished(0, 99, bytes([0]), [b"r"], 0.0, 1))
    assert world.dead == {0}
    world.die(0)
    world.tick()
    assert [index for slot in (0, 1) for _, _, index in world.given[slot]] == [1]


def test_drain_waits_for_the_acknowledgement(world: World) -> None:
    world.assign(1, 2, 3)
    world.tick()
    world.tell(events.Leave("told to"))
    world.tick()
    assert [span.indices for span in world.last(m.Returned).spans] == [[3]]
    world.finish(0)
    world.finish(1)
    world.tick()
    assert not any(isinstance(effect, effects.Stop) for effect in world.effects)
    world.say(m.Ack(1))
    world.tick()
    assert world.effects[-1] == effects.Stop(0)
    assert world.sent[-1] == m.Bye("drained")


def test_a_node_leaves_when_it_had_nothing_to_do_for_long_enough(
    make_world: Callable[..., World],
) -> None:
    world = make_world(idle_timeout=2.0)
    world.tick()
    assert world.core.deadline(world.now) <= world.now + 2.0
    world.tick(1.9)
    world.assign(1)
    world.tick()
    world.tick(3.0)  # with a task it is not idle, however long that takes
    world.finish(0)
    world.tick()
    world.say(m.Ack(1))
    world.tick()
    world.tick(1.9)
    assert not any(isinstance(effect, effects.Stop) for effect in world.effects)
    world.tick(0.2)
    assert world.effects[-1] == effects.Stop(0)


def test_a_node_without_a_broker_is_idle_as_well(make_world: Callable[..., World]) -> None:
    world = make_world(idle_timeout=60.0)
    world.tell(events.LinkLost("gone"))
    world.tick()
    assert world.core.deadline(world.now) == world.now + 60.0
    world.tick(60.0)
    assert world.effects[-1] == effects.Stop(0)


def test_a_node_drains_when_its_time_is_over(make_world: Callable[..., World]) -> None:
    world = make_world(time_limit=10.0)
    world.tick()
    world.assign(1, 2, 3)
    world.tick()
    world.tick(9.9)
    assert not any(isinstance(message, m.Returned) for message in world.sent)
    world.tick(0.2)
    assert [span.indices for span in world.last(m.Returned).spans] == [[3]]
    world.finish(0)
    world.finish(1)
    world.tick()
    world.say(m.Ack(1))
    world.tick()
    assert world.effects[-1] == effects.Stop(0)


def test_after_a_death_what_may_have_run_is_run_one_by_one(world: World) -> None:
    world.assign(*range(200))
    world.tick()
    world.finish(0)
    world.finish(1)
    world.tick()
    assert len(world.given[0]) > 20
    world.claims[0] = world.given[0][9][0]
    # It had finished ten and reported none: no task is to blame.
    world.die(0)
    world.tick()
    assert len(world.given[0]) == 1
    assert not any(status == Status.CRASHED for _, status in _ended(world))


def test_numbering_starts_again_with_each_welcome(world: World) -> None:
    world.assign(1, 2)
    world.tick()
    world.finish(0)
    world.tick()
    world.finish(1)
    world.tick()
    assert world.last(m.Results).seq == 2
    world.say(m.Who(b"x" * 16))
    world.welcome(world.last(m.WorkerHello).holding)
    world.tick()
    assert world.last(m.Results).seq == 1
    assert sorted(index for group in world.last(m.Results).groups for index in group.indices) == [
        1,
        2,
    ]


def test_a_cancelled_task_that_was_done_already_keeps_no_large_result(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(0)
    world.tick()
    ((serial, key, index),) = world.given[0]
    world.claims[0] = serial
    world.say(m.Cancel([m.Span(*key, [index])]))
    assert world.revoking(0)
    result = _HeldResult()
    held = bytes([Status.HELD])
    world.given[0].clear()
    world.tell(events.Finished(0, serial, held, [b"ticket"], 0.1, 6, held_results=[result]))
    world.tick()
    freed = [effect for effect in world.effects if type(effect) is effects.Free]
    assert [block for effect in freed for block in effect.blocks] == [result]
    groups = [group for message in world.unacknowledged for group in message.groups]
    assert groups[-1].statuses[-1] == Status.CANCELLED


def test_a_cancelled_task_that_its_child_gives_back_ends_and_runs_in_no_other_slot(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=2)
    world.assign(0)
    world.tick()
    slot = 0 if world.given[0] else 1
    ((serial, key, index),) = world.given[slot]
    world.say(m.Cancel([m.Span(*key, [index])]))
    assert world.limits[slot] == serial
    # The child was asleep: it sees the limit first, and reports before it says how far it is.
    world.given[slot].clear()
    world.tell(events.Finished(slot, serial, bytes([REVOKED]), [b""], 0.0, 0))
    world.tick()
    assert not any(world.given.values())
    assert _ended(world) == [(index, Status.CANCELLED)]


class _HeldResult:
    """A large result that a client may fetch."""

    key = b"k" * 16
    nbytes = 1 << 20
    ticket = b"ticket"

    def payload(self) -> tuple[bytes, ...]:
        return (bytes(self.nbytes),)

    def admit(self, _guest: str) -> None:
        """No client is served here."""

    def free(self) -> None:
        """Nothing to do: that it is asked for is an effect of the core."""


def test_a_node_without_children_gives_back_what_waits_and_takes_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(*range(5))
    world.tick()
    world.die(0)
    world.tell(events.Unable("cannot start a child for slot 0: no directory"))
    world.tick()
    returned = [span.indices for span in world.last(m.Returned).spans]
    assert sorted(index for part in returned for index in part) == list(range(5))
    assert world.last(m.Renew).window == 0
    assert "no directory" in world.last(m.Event).text
    assert not world.active()
    # What was on its way goes back too; and over a new link it says so at once.
    world.assign(9)
    world.tick()
    assert [span.indices for span in world.last(m.Returned).spans] == [[9]]
    world.tell(events.LinkLost("gone"))
    world.connect()
    assert world.last(m.WorkerHello).window == 0
    world.tell(events.Able())
    assert world.last(m.Renew).window > 0
    world.assign(10)
    world.tick()
    assert world.given[0]


def test_a_child_that_is_unfit_is_replaced_and_the_job_named(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(1, 2, job="culprit")
    world.tick()
    world.finish(0)
    world.tell(events.Finished(0, 1, b"", [], 0.0, 0, worn="changed the umask"))
    world.tick()
    assert world.last(m.Event) == m.Event(
        "child-unfit", "replacing the child of slot 0: a task of job culprit changed the umask", {}
    )
    # The next task may be in its pipe already: it gives that back.
    if world.given[0]:
        ((serial, _, _),) = world.given[0]
        world.given[0].clear()
        world.tell(events.Finished(0, serial, bytes([REVOKED]), [b""], 0.0, 0))
        world.tick()
    assert world.retired == {0}
    world.tell(events.Born(0))
    world.tick()
    assert [index for _, _, index in world.given[0]] == [2]


def test_a_child_that_dies_behind_one_task_unreported_died_of_it(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(1)
    world.tick()
    world.claims[0] = world.given[0][0][0]
    world.die(0)
    world.tick()
    assert _ended(world) == [(1, Status.CRASHED)]


_VALUE, _OWNER = b"v" * 16, b"o" * 16


def _give_back(world: Any, slot: int, value: bytes = _VALUE) -> int:
    """A child gives its whole batch back, for its first task's value has not come; that task."""
    given = world.given[slot][: world.left_of_batch(slot)]
    del world.given[slot][: len(given)]
    world.claims[slot] = given[0][0]
    bodies: list[Payload] = [value + _OWNER, *[b""] * (len(given) - 1)]
    statuses = bytes([REVOKED]) * len(given)
    world.tell(events.Finished(slot, given[0][0], statuses, bodies, 0.0, 0))
    index: int = given[0][2]
    return index


def test_a_task_whose_value_is_away_leaves_its_slot_to_others(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(1)
    world.assign(2, job="other")
    world.tick()
    assert _give_back(world, 0) == 1
    world.tick()
    assert [key[0] for _, key, _ in world.given[0]] == ["other"]
    world.finish(0)
    # The value is there: the task runs.
    world.tell(events.Arrived(b"?" * 16))
    world.tell(events.Arrived(_VALUE))
    world.tick()
    assert [key[0] for _, key, _ in world.given[0]] == ["j"]
    world.finish(0)
    world.tick()
    assert {status for _, status in _ended(world)} == {Status.OK}
    assert not any(isinstance(message, m.Unheard) for message in world.sent)


def test_a_job_whose_values_stay_away_goes_back_to_the_broker(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1)
    world.assign(*range(5))
    world.assign(9, job="other")
    world.tick()
    _give_back(world, 0)
    world.tick()
    deadline = world.core.deadline(world.now)
    assert deadline <= world.now + 1.0
    world.tick(1.0)
    assert world.last(m.Unheard) == m.Unheard(_OWNER)
    returned = [i for span in world.last(m.Returned).spans for i in span.indices]
    # One is in the slot again, to see whether its value has come.
    assert sorted(returned) == [0, 2, 3, 4]
    _give_back(world, 0)
    world.tick()
    assert [key[0] for _, key, _ in world.given[0]] == ["other"]
    world.tick(1.0)
    assert [span.indices for span in world.last(m.Returned).spans] == [[1]]
    assert world.active() == 1


def test_without_a_link_tasks_whose_values_are_away_wait(make_world: Callable[..., World]) -> None:
    world = make_world(slots=1)
    world.assign(1)
    world.tick()
    _give_back(world, 0)
    world.tell(events.LinkLost("gone"))
    sent = len(world.sent)
    world.tick(5.0)
    assert len(world.sent) == sent
    assert world.core.deadline(world.now) == math.inf
    world.connect()
    world.tick()
    assert [span.indices for span in world.last(m.Returned).spans] == [[1]]


@pytest.mark.parametrize("how", ["cancel", "welcome", "drain"])
def test_a_task_whose_value_is_away_can_be_ended(
    make_world: Callable[..., World], how: str
) -> None:
    world = make_world(slots=1)
    world.assign(1)
    world.tick()
    _give_back(world, 0)
    if how == "cancel":
        world.say(m.Cancel([m.Span("j", 1, [1])]))
        world.tick()
        assert _ended(world) == [(1, Status.CANCELLED)]
    elif how == "welcome":
        world.connect(keep=[])
        assert not world.active()
    else:
        world.tell(events.Leave("enough"))
        world.tick()
        assert [span.indices for span in world.last(m.Returned).spans] == [[1]]
    world.tell(events.Arrived(_VALUE))
    world.tick(5.0)
    assert not world.given[0]


def _timeouts(world: World) -> dict[str, float]:
    """What the node knows of jobs: the option `timeout` of each."""
    return {job: rules.timeout for job, rules in world.core._work._jobs._rules.items()}


def test_the_rules_of_jobs_that_are_over_are_forgotten(world: World) -> None:
    for number, job in enumerate("abc"):
        world.assign(number, job=job, options={"timeout": 7.0 + number})
    world.tick()
    world.finish(0)
    world.tick()
    world.say(m.Ack(world.unacknowledged[-1].seq))
    world.say(m.JobsOver([m.Span("a", 0, []), m.Span("b", 0, [])]))
    assert _timeouts(world) == {"b": 8.0, "c": 9.0}, "a task of b is here still"
    world.finish(1)
    world.tick()
    world.say(m.Ack(world.unacknowledged[-1].seq))
    world.say(m.JobsOver([m.Span("other", 0, [])]))
    assert _timeouts(world) == {"c": 9.0}


def test_with_a_welcome_the_rules_of_jobs_are_told_anew(world: World) -> None:
    world.assign(0, job="ended", options={"timeout": 7.0})
    world.tick()
    world.finish(0)
    world.tick()
    world.say(m.Ack(world.unacknowledged[-1].seq))
    world.assign(1, job="stays", options={"timeout": 8.0})
    world.assign(2, job="again", options={"timeout": 9.0})
    world.connect()
    assert _timeouts(world) == {"stays": 8.0, "again": 9.0}
    world.assign(3, job="again", options={"timeout": 9.0}, code=False)
    world.say(m.Cancel([m.Span("stays", 0, []), m.Span("again", 0, [])]))
    world.tick()
    world.say(m.Ack(world.unacknowledged[-1].seq))
    world.say(m.JobsOver([m.Span("other", 0, [])]))
    assert _timeouts(world) == {"again": 9.0}, "the broker relies on what it has told"
