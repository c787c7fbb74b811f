"""How much is given out at a time: to a large fleet, and of jobs whose function has run before."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import transitions
from manyhands_broker.core.dispatch import dispatcher
from manyhands_broker.core.state.function_registry import Functions
from manyhands_shared.protocol import messages as m

NODES = [b"node-%d" % number for number in range(4)]


def given(world: World) -> dict[bytes, list[tuple[str, int]]]:
    """What each node was given since the last look."""
    return {node: list(world.assigned(node)) for node in NODES}


def end(world: World, node: bytes, job: str, indices: list[int], each: float) -> None:
    """These tasks have ended, and took `each` seconds."""
    count = len(indices)
    group = m.ResultGroup(job, 1, indices, bytes(count), [b"result"] * count, count * each)
    world.drain((node, m.Results(1, [group])))


def test_a_large_fleet_is_served_over_several_drains(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in NODES:
        world.node(node)
    world.submit(8, closed=False)
    # Then the duration is known, so that a node is given more than it has slots.
    for node, tasks in given(world).items():
        end(world, node, "job", [index for _, index in tasks], 0.01)
    monkeypatch.setattr(dispatcher, "DRAIN_TASKS", 1)
    world.submit(100, first=8)
    first = given(world)
    assert sorted(map(bool, first.values())) == [False, False, False, True]
    assert world.core.wake_at is not None
    assert world.core.wake_at < world.now + 1e-6
    world.wait(1e-3)
    rest = given(world)
    assert all(first[node] or rest[node] for node in NODES)
    # Those whose turn had not come were idle meanwhile, which is no reason to take from others.
    assert not any(world.take(node, m.Recall) for node in NODES)


def test_a_new_job_of_a_known_function_is_not_begun_one_by_one(world: World) -> None:
    for node in NODES:
        world.node(node)
    world.submit(8, "first")
    for node, tasks in given(world).items():
        assert len(tasks) == 2
        end(world, node, "first", [index for _, index in tasks], 0.0001)
    world.submit(400, "second")
    assert {len(tasks) for tasks in given(world).values()} == {40}


def test_a_new_job_of_a_slow_function_has_nothing_waiting(world: World) -> None:
    for node in NODES:
        world.node(node)
    world.submit(8, "first")
    for node, tasks in given(world).items():
        end(world, node, "first", [index for _, index in tasks], 0.1)
    world.submit(400, "second")
    assert {len(tasks) for tasks in given(world).values()} == {2}


def test_durations_are_forgotten_with_their_functions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Functions, "SPARE_BYTES", 3)
    world.node(NODES[0])
    world.submit(1, "first")
    end(world, NODES[0], "first", [0], 0.0001)
    functions = world.core.state.functions
    assert len(functions._seconds) == 1
    other = b"o" * 16
    world.drain(
        (b"client", m.Function(other, "g", [b"code"])),
        (b"client", m.Submit([m.SubmitGroup("other", other, {}, 0, True, [b"arg"])])),
    )
    end(world, NODES[0], "other", [0], 0.0001)
    assert list(functions._seconds) == [other]


def test_processors_are_occupied_while_no_slot_is_idle(world: World) -> None:
    assert not world.core.occupies(1), "there is no node"
    world.node(b"node-0")
    assert not world.core.occupies(2)
    world.submit(3)
    (_, first), (_, second) = given(world)[b"node-0"]
    assert world.core.occupies(2)
    assert not world.core.occupies(3), "there are two slots"
    end(world, b"node-0", "job", [first], 0.1)
    (_, third) = given(world)[b"node-0"][0]
    assert world.core.occupies(2), "another task has come to the slot"
    end(world, b"node-0", "job", [second, third], 0.1)
    assert not world.core.occupies(2)


def test_a_node_is_told_of_the_jobs_that_are_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "OVER_JOBS", 3)
    for node in NODES[:2]:
        world.node(node)
    for number in range(7):
        world.submit(1, f"job-{number}")
        world.run_all(NODES[0])
        world.run_all(NODES[1])
    told = [span for message in world.take(NODES[0], m.JobsOver) for span in message.spans]
    told += [span for message in world.take(NODES[1], m.JobsOver) for span in message.spans]
    assert len({span.job for span in told}) == len(told)
    assert {span.attempt for span in told} == {0}
    waiting = [job for node in world.core.state.fleet for job in node.over]
    assert sorted(waiting + [span.job for span in told]) == [f"job-{n}" for n in range(7)]
    assert all(len(node.over) < 3 for node in world.core.state.fleet)


def test_a_node_forgets_a_job_before_it_is_told_of_another_with_its_id(world: World) -> None:
    node = NODES[0]
    world.node(node)
    world.submit(1, "job", durable=False)
    world.run_all(node)
    world.client(b"other")
    world.submit(1, "job", durable=False, peer=b"other")
    world.wait(transitions.ID_REUSE_DELAY + 0.1, node)
    said = [type(message) for message in world.inbox[node]]
    assert said.index(m.JobsOver) < max(at for at, kind in enumerate(said) if kind is m.Assign)


def test_what_waits_behind_long_tasks_comes_back_though_no_slot_idles(world: World) -> None:
    slow, quick = NODES[:2]
    for node in (slow, quick):
        world.node(node)
    world.submit(4, closed=False)
    mine: dict[bytes, list[int]] = {}
    for node in (slow, quick):
        end(world, node, "job", [index for _, index in world.assigned(node)], 0.004)
    world.submit(1_000, first=4, closed=False)
    for node in (slow, quick):
        mine[node] = [index for _, index in world.assigned(node)]
        assert 2 < len(mine[node]) < 100, "the rest waits at the broker"
    taken: set[int] = set()

    def step(seconds: float) -> None:
        """Let the quick node end a task, and get others."""
        end(world, quick, "job", [mine[quick].pop(0)], 0.004)
        taken.update(index for _, index in world.assigned(quick))
        world.wait(seconds, slow, quick)

    for _ in range(4):
        step(0.2)
    assert not world.take(slow, m.Recall), "it may be a task of a second"
    for _ in range(8):
        step(0.2)
    [recall] = world.take(slow, m.Recall)
    assert recall.count == len(mine[slow]) - 2
    assert not world.take(quick, m.Recall)
    running, back = mine[slow][:2], mine[slow][2:]
    world.drain((slow, m.Returned([m.Span("job", 1, back)])))
    while len(mine[quick]) > 2:
        step(0.2)
    assert not world.assigned(slow), "its slots are still taken"
    assert taken & set(back)
    end(world, slow, "job", running[:1], 2.0)
    assert world.assigned(slow), "now one is free"
