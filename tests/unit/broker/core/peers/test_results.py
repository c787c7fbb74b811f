"""How attempts end: which results count, who is blamed, and what of a result stays on its node."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import Limits, LinkClosed
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

TICKET = b"a ticket"


def counters(world: World) -> dict[str, int]:
    found: dict[str, int] = world.ask("stats")["counters"]
    return found


def group(
    indices: list[int], statuses: list[int], attempt: int = 1, seconds: float = 0.01
) -> m.Results:
    """Results of several tasks of one job in one message."""
    bodies: list[bytes | tuple[object, ...]] = [
        b"r%d" % index
        if status == Status.OK
        else TICKET
        if status == Status.HELD
        else _failure(status)
        for index, status in zip(indices, statuses, strict=True)
    ]
    return m.Results(1, [m.ResultGroup("job", attempt, indices, bytes(statuses), bodies, seconds)])


def _failure(status: int) -> bytes:
    if status == Status.CANCELLED:
        return b""
    name = "manyhands.TaskCrashed" if status == Status.CRASHED else "ValueError"
    return Failure(name, "it was killed by SIGSEGV", bases=(name, "Exception")).encode()


def test_a_result_of_another_attempt_counts_for_nothing(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    world.assigned()
    world.drain((b"node", world.result(0, attempt=2)))
    assert world.results() == []
    assert counters(world)["stale_results"] == 1
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, Status.OK)]
    world.drain((b"node", world.result(0)))
    assert world.results() == [], "it comes once"
    assert counters(world)["stale_results"] == 2


def test_what_comes_again_under_an_older_number_takes_no_acknowledgement_back(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    world.assigned()
    first, second = world.result(0), m.Results(2, group([1], [Status.OK]).groups)
    world.drain((b"node", first), (b"node", second), (b"node", first))
    world.wait(1.0, b"node")
    assert world.take(b"node", m.Ack) == [m.Ack(2)]


def test_a_node_reports_what_it_holds_and_not_what_another_does(world: World) -> None:
    world.node(slots=1)
    world.node(b"other", slots=1)
    world.submit(2, durable=False)
    mine = {index for _, index in world.assigned()}
    others = {index for _, index in world.assigned(b"other")}
    assert mine
    assert others
    world.drain((b"node", group(sorted(others), [Status.OK] * len(others))))
    assert world.results() == []
    world.drain((b"other", group(sorted(others), [Status.OK] * len(others))))
    assert {index for _, index, _ in world.results()} == others


def test_an_index_that_stands_twice_in_a_group_ends_once(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    world.assigned()
    world.drain((b"node", group([0, 0, 1], [Status.OK] * 3)))
    assert sorted(world.results()) == [("job", 0, 0), ("job", 1, 0)]
    world.core.validate()


def test_tasks_of_one_group_end_each_in_its_own_way(world: World) -> None:
    world.node(slots=8)
    world.submit(4, durable=False, retries=1, retry_delay=0.0)
    world.assigned()
    world.drain((b"client", m.Cancel([m.Span("job", 0, [3])])))
    statuses = [Status.OK, Status.RAISED, Status.CRASHED, Status.CANCELLED]
    world.drain((b"node", group([0, 1, 2, 3], [*map(int, statuses)])))
    world.wait(0.1, b"node")
    assert sorted(world.results()) == [("job", 0, Status.OK), ("job", 3, Status.CANCELLED)]
    again = world.assigned()
    assert {index: attempt for (_, index), (attempt, _) in again.items()} == {1: 2, 2: 2}
    found = counters(world)
    assert (found["tasks_retried"], found["child_deaths"]) == (1, 1)


def test_a_cancellation_that_was_nobodys_wish_here_runs_the_task_again(world: World) -> None:
    """The broker before this one may have ordered it, for a session that it had given up."""
    world.node()
    world.submit(1, durable=False)
    world.assigned()
    world.drain((b"node", group([0], [Status.CANCELLED])))
    assert world.results() == []
    assert world.assigned() == {("job", 0): (2, b"arg0")}


def test_a_task_that_kills_its_children_is_quarantined_with_its_story(world: World) -> None:
    world.node()
    world.submit(1, durable=False, crash_limit=2)
    for attempt in (1, 2):
        assert world.assigned() == {("job", 0): (attempt, b"arg0")}
        world.drain((b"node", group([0], [Status.CRASHED], attempt)))
    [results] = world.take(b"client", m.Results)
    [told] = results.groups
    failure = Failure.decode(told.bodies[0])
    assert told.statuses == bytes([Status.CRASHED])
    assert failure.story == tuple(
        f"attempt {attempt} on node node: it was killed by SIGSEGV" for attempt in (1, 2)
    )
    assert "ended 2 processes and is not run again" in failure.message
    assert counters(world)["tasks_quarantined"] == 1
    assert world.assigned() == {}


def test_at_most_once_has_no_second_attempt(world: World) -> None:
    world.node()
    world.submit(1, durable=False, at_most_once=True)
    world.assigned()
    world.drain((b"node", group([0], [Status.CRASHED])))
    assert world.results() == [("job", 0, Status.CRASHED)]


def test_a_node_that_dies_with_few_tasks_is_charged_to_them(world: World) -> None:
    world.node(slots=2)
    world.submit(2, durable=False, crash_limit=1)
    assert len(world.assigned()) == 2
    world.do(world.core.handle(LinkClosed(b"node"), world.now))
    world.wait(10.0)
    assert sorted(world.results()) == [("job", 0, Status.CRASHED), ("job", 1, Status.CRASHED)]


def test_a_node_that_dies_with_many_tasks_has_them_run_apart_next_time(world: World) -> None:
    """Which of them did it cannot be told: none is charged, and each is given out alone."""
    world.node(slots=1)
    world.submit(200, durable=False, crash_limit=1)
    while len(held := world.assigned()) <= 1:  # until they are known to be short
        [(_, index)] = held
        world.drain((b"node", group([index], [Status.OK], seconds=1e-5)))
    world.results()
    world.do(world.core.handle(LinkClosed(b"node"), world.now))
    world.wait(10.0)
    assert world.results() == []
    world.node(b"other", slots=1)
    suspects = {index for _, index in held}
    for _ in range(len(suspects)):
        given = world.assigned(b"other")
        at_once = suspects & {index for _, index in given}
        assert len(at_once) <= 1
        suspects -= at_once
        world.drain(*((b"other", world.result(i, n)) for (_, i), (n, _) in given.items()))
    assert not suspects, "each has had its turn"


@pytest.mark.parametrize("durable", [False, True])
def test_a_result_that_is_held_is_told_to_a_client_and_brought_here_for_a_durable_job(
    world: World, durable: bool
) -> None:
    world.node()
    world.submit(1, durable=durable)
    world.assigned()
    world.drain((b"node", group([0], [Status.HELD])))
    if durable:
        assert world.take(b"node", m.Relay) == [m.Relay([m.Span("job", 1, [0])])]
        assert world.results() == []
        world.drain((b"node", world.result(0)))
        assert world.ask("job", id="job")["done"] == 1
    else:
        [results] = world.take(b"client", m.Results)
        assert results.groups[0].bodies == [TICKET]
        world.drain((b"client", m.Taken([m.Span("job", 1, [0])])))
        assert world.take(b"node", m.Taken) == [m.Taken([m.Span("job", 1, [0])])]
        assert world.results() == [("job", 0, Status.OK)]


def test_a_held_result_that_the_client_cannot_fetch_comes_through_the_broker(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    world.assigned()
    world.drain((b"node", group([0], [Status.HELD])))
    world.results()
    world.drain((b"client", m.Relay([m.Span("job", 2, [0])])))
    assert world.take(b"node", m.Relay) == [], "of an attempt that the node does not hold"
    world.drain((b"client", m.Relay([m.Span("job", 1, [0])])))
    assert world.take(b"node", m.Relay) == [m.Relay([m.Span("job", 1, [0])])]
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, Status.OK)]


def test_a_stale_result_is_not_kept_by_its_node(world: World) -> None:
    """No client will fetch it, so the broker has the node let go of it."""
    world.node()
    world.submit(1, durable=False)
    world.assigned()
    world.drain((b"node", group([0], [Status.HELD], attempt=7)))
    assert world.take(b"node", m.Taken) == [m.Taken([m.Span("job", 7, [0])])]


def test_a_held_result_dies_with_its_node_and_its_task_is_not_blamed() -> None:
    world = World(Limits(lease=10.0, session_grace=60.0, crash_limit=1))
    world.client()
    world.node(slots=2)
    world.submit(1, durable=False)
    world.assigned()
    world.drain((b"node", group([0], [Status.HELD])))
    world.results()
    world.do(world.core.handle(LinkClosed(b"node"), world.now))
    world.wait(10.0)
    assert world.results() == [], "it had run to its end"
    world.node(b"other")
    assert world.assigned(b"other") == {("job", 0): (2, b"arg0")}
