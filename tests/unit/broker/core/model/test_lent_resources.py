"""What tasks that wait for tasks take of a node is free for others meanwhile, and theirs again later."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status

GPU = {"gpu": 1.0}


@pytest.fixture
def world() -> World:
    """A node whose only device the first of three tasks has."""
    made = World()
    made.client()
    made.node(slots=1, resources=GPU)
    made.submit(3, resources=GPU, durable=False)
    assert made.assigned() == {("job", 0): (1, b"arg0")}
    return made


def renew(world: World, *lent: tuple[int, int], slots: int = 4) -> None:
    """The node lends what these of its tasks take: index and attempt of each."""
    spans = [m.Span("job", attempt, [index]) for index, attempt in lent]
    world.drain((b"node", m.Renew(1, slots, 100, spans)))


def free(world: World) -> float:
    [node] = world.ask("nodes")
    return float(node["free"]["gpu"])


def test_another_task_has_it_meanwhile_and_both_when_the_first_goes_on(world: World) -> None:
    renew(world)
    assert not world.assigned(), "a slot is of no use without the device"
    renew(world, (0, 1))
    assert world.assigned() == {("job", 1): (1, b"arg1")}
    renew(world)
    assert free(world) == -1.0
    world.drain((b"node", world.result(1)))
    assert not world.assigned(), "the first has it"
    world.drain((b"node", world.result(0)))
    assert world.assigned() == {("job", 2): (1, b"arg2")}
    world.drain((b"node", world.result(2)))
    assert free(world) == 1.0


def test_what_is_said_again_counts_once(world: World) -> None:
    for _ in range(3):
        renew(world, (0, 1), (0, 1))
    assert list(world.assigned()) == [("job", 1)]
    assert free(world) == 0.0


@pytest.mark.parametrize("status", [Status.OK, Status.HELD, Status.CRASHED, Status.CANCELLED])
def test_a_task_that_ends_lends_nothing_any_more(world: World, status: Status) -> None:
    renew(world, (0, 1))
    assert world.assigned()
    world.drain((b"client", m.Cancel([m.Span("job", 0, [0])])))
    world.drain((b"node", world.result(0, status=status)))
    assert free(world) == 0.0
    # Said before the node knew of the end, or by one that cannot count.
    renew(world, (0, 1))
    assert free(world) == 0.0
    assert not world.assigned()


def test_nothing_is_lent_by_attempts_that_are_not_the_nodes(world: World) -> None:
    renew(world, (0, 2), (2, 1), (50, 1))
    world.drain((b"node", m.Renew(1, 4, 100, [m.Span("other", 1, [0]), m.Span("job", 1, [])])))
    assert not world.assigned()
    assert free(world) == 0.0


def test_a_node_that_returns_over_another_link_lends_what_it_says_then(world: World) -> None:
    renew(world, (0, 1))
    assert world.assigned()
    keep = world.node(holding=[m.Span("job", 1, [0, 1])], slots=1, resources=GPU)
    assert keep == [m.Span("job", 1, [0, 1])]
    assert free(world) == -1.0
    renew(world, (0, 1))
    assert free(world) == 0.0


def test_cores_that_are_counted_by_slots_do_not_grow_with_what_is_lent() -> None:
    world = World()
    world.client()
    world.node(slots=1)
    world.submit(2, resources={"cpus": 1.0}, durable=False)
    assert list(world.assigned()) == [("job", 0)]
    world.drain((b"node", m.Renew(1, 2, 100, [])))
    assert not world.assigned()
    world.drain((b"node", m.Renew(2, 2, 100, [m.Span("job", 1, [0])])))
    assert list(world.assigned()) == [("job", 1)]


def test_what_is_lent_goes_with_the_node(world: World) -> None:
    renew(world, (0, 1))
    world.drain((b"node", m.Bye("scaled in")))
    world.node(b"other", slots=1, resources=GPU)
    assert len(world.assigned(b"other")) == 1
