"""A slot whose task waits for tasks is lent: another serves meanwhile, and is closed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.worlds.worker import World
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import effects, events


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A node of two slots, each with a task."""
    made = make_world()
    made.assign(0)
    made.assign(1, code=False)
    made.tick()
    assert all(made.given.values())
    return made


def opened(world: World) -> list[int]:
    return [effect.slot for effect in world.effects if isinstance(effect, effects.Open)]


def lend(world: World, slot: int, *, on: bool) -> None:
    serial = world.given[slot][0][0] if world.given[slot] else 0
    world.tell(events.Lends(slot, on, serial))
    world.tick()


def told(world: World) -> int:
    """How many slots the broker knows of."""
    renewed: m.Renew = world.last(m.Renew)
    return renewed.slots


def test_one_more_serves_and_the_broker_knows(world: World) -> None:
    lend(world, 0, on=True)
    assert opened(world) == [2]
    assert told(world) == 3
    world.assign(2, code=False)
    world.tick()
    assert not world.given[2], "its child is not there yet"
    world.tell(events.Born(2))
    world.tick()
    assert [index for *_, index in world.given[2]] == [2]


def test_it_ends_what_it_has_and_takes_nothing_new_when_the_loan_is_over(world: World) -> None:
    lend(world, 0, on=True)
    world.tell(events.Born(2))
    world.assign(2, code=False)
    world.tick()
    lend(world, 0, on=False)
    assert told(world) == 2
    assert world.closed == set()
    world.assign(3, code=False)
    world.tick()
    assert [index for *_, index in world.given[2]] == [2]
    world.finish(2)
    world.tick()
    assert world.closed == {2}
    assert world.retired == set()


def test_a_child_that_comes_after_the_loan_is_ended(world: World) -> None:
    lend(world, 0, on=True)
    lend(world, 0, on=False)
    assert world.closed == {2}
    world.closed.clear()
    world.tell(events.Born(2))
    world.assign(2, code=False)
    world.tick()
    assert world.closed == {2}
    assert not world.given[2]


def test_a_task_whose_child_is_being_killed_ends_before_its_slot_is_closed(world: World) -> None:
    lend(world, 0, on=True)
    world.tell(events.Born(2))
    world.assign(2, code=False)
    world.tick()
    world.claims[2] = world.given[2][0][0]
    world.say(m.Cancel([m.Span("j", 1, [2])]))
    world.tell(events.Claimed(2, world.claims[2]))
    assert world.dead == {2}
    lend(world, 0, on=False)
    assert world.closed == set(), "else its death would not be told, and the task never end"
    world.die(2)
    world.tick()
    ended: m.Results = world.last(m.Results)
    assert (ended.groups[0].indices, ended.groups[0].statuses) == ([2], bytes([Status.CANCELLED]))
    assert world.closed == {2}


def test_numbers_are_used_again(world: World) -> None:
    for _ in range(3):
        lend(world, 0, on=True)
        world.tell(events.Born(2))
        world.tick()
        lend(world, 0, on=False)
        world.tick()
    assert opened(world) == [2, 2, 2]


def test_each_slot_whose_task_waits_is_lent_however_deep(world: World) -> None:
    deep = 200
    for slot in range(deep):
        lend(world, slot, on=True)
        world.tell(events.Born(opened(world)[-1]))
    assert opened(world) == list(range(2, 2 + deep))
    assert told(world) == 2 + deep, "so two slots have no task that waits"
    renewed: m.Renew = world.last(m.Renew)
    assert renewed.window == 1_000 + deep, "nor do those that wait keep others from the node"
    for slot in range(deep):
        lend(world, slot, on=False)
    world.tick()
    assert told(world) == 2
    assert world.closed == set(opened(world))


def test_a_new_link_is_told_of_it(world: World) -> None:
    lend(world, 0, on=True)
    world.connect()
    hello: m.WorkerHello = world.last(m.WorkerHello)
    assert hello.slots == 2, "by these the broker counts what the node has"
    assert told(world) == 3
    renewed: m.Renew = world.last(m.Renew)
    assert renewed.lent == [m.Span("j", 1, [0])]


def test_the_broker_knows_which_tasks_wait_also_where_their_number_stays(world: World) -> None:
    lend(world, 0, on=True)
    world.tell(events.Lends(0, on=False))
    lend(world, 1, on=True)
    renewed: m.Renew = world.last(m.Renew)
    assert (renewed.slots, renewed.lent) == (3, [m.Span("j", 1, [1])])
    world.finish(1)
    world.assign(2, code=False)
    world.tick()
    lend(world, 1, on=True)
    renewed = world.last(m.Renew)
    assert (renewed.slots, renewed.lent) == (3, [m.Span("j", 1, [2])])
    lend(world, 1, on=False)
    renewed = world.last(m.Renew)
    assert (renewed.slots, renewed.lent) == (2, [])
