"""How often a task runs: retries and their waits, deadlines, at most once, quarantine."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import LinkClosed
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status


def test_retries_come_after_a_growing_wait(world: World) -> None:
    world.node()
    world.submit(retries=3, retry_delay=1.0, retry_max_delay=3.0)
    waits = []
    for attempt in (1, 2, 3):
        assert world.assigned()["job", 0][0] == attempt
        failed = world.now
        world.drain((b"node", world.result(0, attempt, status=Status.RAISED)))
        assert "will be run again" in world.ask("why", id="job")[0]
        while not world.inbox.get(b"node") or not any(
            isinstance(message, m.Assign) for message in world.inbox[b"node"]
        ):
            world.wait(0.01, b"node")
        waits.append(world.now - failed)
    for waited, delay in zip(waits, (1.0, 2.0, 3.0), strict=True):
        assert delay / 2 <= waited <= delay + 0.02
    world.drain((b"client", m.Attach("job")))
    world.drain((b"node", world.result(0, 4, status=Status.RAISED)))
    world.wait(0.1, b"node")
    assert world.results() == [("job", 0, Status.RAISED)]


@pytest.mark.parametrize(
    ("retry_on", "status", "again"),
    [
        (["ValueError"], Status.RAISED, True),
        (["Exception"], Status.RAISED, True),
        (["KeyError"], Status.RAISED, False),
        (["TimeoutError"], Status.TIMED_OUT, True),
        (["ValueError"], Status.TIMED_OUT, False),
        ([], Status.TIMED_OUT, True),
        ([], Status.UNSENDABLE, False),
    ],
)
def test_which_failures_are_worth_another_run(
    world: World, retry_on: list[str], status: Status, again: bool
) -> None:
    world.node()
    world.submit(retries=1, retry_on=retry_on, retry_delay=0.1)
    world.assigned()
    world.drain((b"node", world.result(0, status=status)))
    world.wait(0.2, b"node")
    assert bool(world.assigned()) is again


def test_a_session_at_its_limit_goes_on_after_a_postponed_task(world: World) -> None:
    world.node()
    hello = m.ClientHello(1, b"limited.........", "limited", 0, 1, {})
    world.drain((b"limited", hello))
    world.submit(2, peer=b"limited", durable=False, retries=1, retry_delay=50.0)
    assert set(world.assigned()) == {("job", 0)}
    world.drain((b"node", world.result(0, status=Status.RAISED)))
    assert set(world.assigned()) == {("job", 1)}


def test_a_retry_keeps_its_wait_after_adoption(world: World) -> None:
    world.node()
    world.submit(2, retries=1, retry_delay=8.0)
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.drain((b"node", world.result(0, status=Status.RAISED)))
    world.wait(3.9, b"node")
    assert not world.assigned()
    world.wait(4.2, b"node")
    assert set(world.assigned()) == {("job", 0)}


@pytest.mark.parametrize("restart", [False, True])
def test_a_deadline_ends_what_has_not_ended(world: World, restart: bool) -> None:
    world.node()
    world.submit(4, closed=False, deadline=20.0)
    world.drain((b"client", m.Attach("job")))
    world.assigned()
    world.wait(19.0, b"node")
    assert world.results() == []
    if restart:
        world.restart(0.5)
        world.client()
        world.node(holding=[m.Span("job", 1, [0, 1])])
        world.drain((b"client", m.Attach("job")))
    world.wait(1.5, b"node")
    assert sorted(world.results()) == [("job", 2, Status.TIMED_OUT), ("job", 3, Status.TIMED_OUT)]
    [cancel] = world.take(b"node", m.Cancel)
    assert cancel.spans[0].indices == [0, 1]
    world.drain((b"node", world.result(0, status=Status.CANCELLED)), (b"node", world.result(1)))
    assert sorted(world.results()) == [("job", 0, Status.TIMED_OUT), ("job", 1, Status.OK)]
    world.submit(1, first=4, deadline=20.0)
    assert world.results() == [("job", 4, Status.TIMED_OUT)]
    assert world.ask("job", id="job")["state"] == "failed"


def test_at_most_once_is_lost_with_its_node(world: World) -> None:
    world.node()
    world.submit(3, at_most_once=True)
    assert len(world.assigned()) == 2
    world.drain((b"client", m.Attach("job")))
    world.drain((b"node", m.Returned([m.Span("job", 1, [1])])))
    assert world.assigned()["job", 1][0] == 2, "what was not started may be given out again"
    world.do(world.core.handle(LinkClosed(b"node"), world.now))
    world.wait(world.limits.lease + 1)
    assert sorted(world.results()) == [("job", 0, Status.LOST), ("job", 1, Status.LOST)]
    world.node(b"other")
    assert set(world.assigned(b"other")) == {("job", 2)}


@pytest.mark.parametrize("comes_back", [True, False])
def test_at_most_once_holds_over_a_restart(world: World, comes_back: bool) -> None:
    world.node()
    world.submit(3, at_most_once=True)
    assert len(world.assigned()) == 2
    world.restart()
    world.client()
    world.drain((b"client", m.Attach("job")))
    world.node(b"other", slots=4)
    world.wait(5.0, b"other")
    assert set(world.assigned(b"other")) == {("job", 2)}
    assert "may not run twice" in " ".join(world.ask("why", id="job"))
    if comes_back:
        span = m.Span("job", 1, [0, 1])
        assert world.node(holding=[span]) == [span]
        world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    world.wait(world.limits.session_grace + 1, b"other", *([b"node"] if comes_back else []))
    status = Status.OK if comes_back else Status.LOST
    assert sorted(world.results()) == [("job", 0, status), ("job", 1, status)]
    assert not world.assigned(b"other")


def test_a_task_that_ends_nodes_is_quarantined_with_its_story(world: World) -> None:
    world.submit(crash_limit=3)
    world.drain((b"client", m.Attach("job")))
    for attempt in (1, 2, 3):
        name = b"node%d" % attempt
        world.node(name, slots=1)
        assert world.assigned(name)["job", 0][0] == attempt
        world.do(world.core.handle(LinkClosed(name), world.now))
        world.wait(world.limits.link_grace + 0.1)
    [message] = world.take(b"client", m.Results)
    [group] = message.groups
    assert group.statuses == bytes([Status.CRASHED])
    story = Failure.decode(group.bodies[0]).story
    assert [line.split()[:4] for line in story] == [
        ["attempt", str(n), "node", f"node{n}:"] for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("known", [True, False], ids=["durable", "unknown"])
def test_no_node_claims_an_attempt_behind_which_there_are_none(world: World, known: bool) -> None:
    if known:
        world.submit()
    world.restart()
    assert world.node(holding=[m.Span("job", (1 << 31) - 1, [0])]) == []
    world.client()
    world.submit(durable=known)
    world.wait(1.0, b"node")
    [(attempt, _)] = world.assigned().values()
    assert attempt == 1
