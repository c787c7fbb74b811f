"""A broker that did not run for a while: the time counts against no peer, for it could hear none."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import LinkClosed, Stalled
from manyhands_broker.core.peers.relays.inspections import ANSWER_SECONDS
from manyhands_broker.core.transitions import ID_REUSE_DELAY
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status


def close(world: World, peer: bytes) -> None:
    """The link of a peer is gone."""
    world.do(world.core.handle(LinkClosed(peer), world.now))


def stall(world: World, seconds: float) -> None:
    """The broker is stopped for a while; what is due by then follows."""
    world.now += seconds
    world.do(world.core.handle(Stalled(seconds), world.now))
    world.drain()


def test_a_node_without_a_link_has_its_whole_grace(world: World) -> None:
    world.node()
    world.submit(1)
    assert world.assigned()
    close(world, b"node")
    stall(world, 5 * world.limits.lease)
    [kept] = world.node(holding=[m.Span("job", 1, [0])])
    assert kept.indices == [0]
    close(world, b"node")
    stall(world, world.limits.link_grace + 1)
    stall(world, world.limits.link_grace + 1)
    world.wait(world.limits.link_grace - 0.1)
    assert world.core.state.fleet.by_name
    world.wait(0.2)
    assert not world.core.state.fleet.by_name


def test_a_client_without_a_link_has_its_whole_grace(world: World) -> None:
    world.client(b"guest")
    close(world, b"guest")
    stall(world, 2 * world.limits.session_grace)
    world.wait(world.limits.session_grace - 1)
    assert world.core.state.counters["sessions_expired"] == 0
    world.wait(2)
    assert world.core.state.counters["sessions_expired"] == 1


def test_after_a_restart_nodes_have_as_long_to_say_what_they_hold(world: World) -> None:
    world.node()
    world.submit(2, at_most_once=True)
    assert len(world.assigned()) == 2
    world.restart()
    world.client()
    world.drain((b"client", m.Attach("job")))
    stall(world, 2 * world.limits.session_grace)
    span = m.Span("job", 1, [0, 1])
    assert world.node(holding=[span]) == [span]
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    assert sorted(world.results()) == [("job", 0, Status.OK), ("job", 1, Status.OK)]


@pytest.mark.parametrize("late", [False, True])
def test_after_a_restart_clients_have_as_long_to_claim_what_runs(world: World, late: bool) -> None:
    span = m.Span("job", 1, [0])
    world.restart()
    if not late:
        assert world.node(holding=[span]) == [span]
    stall(world, 2 * world.limits.session_grace)
    if late:
        assert world.node(holding=[span]) == [span]
    assert not world.take(b"node", m.Cancel)
    world.wait(world.limits.session_grace + 1, b"node")
    assert world.take(b"node", m.Cancel)[0].spans == [span]


def test_a_job_that_is_submitted_behind_the_stall_waits_as_long_too(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    assert world.assigned()
    world.restart()
    world.node(b"other")
    world.client(last_seq=1)
    stall(world, 10 * world.limits.rejoin_wait)
    world.submit(1, durable=False)
    world.wait(world.limits.rejoin_wait - 0.1, b"other")
    assert not world.assigned(b"other")
    world.wait(0.2, b"other")
    assert world.assigned(b"other")


def test_an_id_that_is_used_again_waits_until_nodes_could_hear_of_its_end(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, Status.OK)]
    world.assigned()
    stall(world, 10 * ID_REUSE_DELAY)
    world.client(b"other")
    world.submit(1, durable=False, peer=b"other")
    world.wait(ID_REUSE_DELAY - 0.1, b"node")
    assert not world.assigned()
    world.wait(0.2, b"node")
    assert world.assigned()


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_waits_as_long_for_the_nodes_that_may_hold_its_tasks(
    world: World, durable: bool
) -> None:
    world.node()
    world.submit(1, durable=durable)
    assert world.assigned()
    world.restart()
    world.node(b"other")
    if not durable:
        world.client(last_seq=1)
        world.submit(1, durable=False)
    stall(world, 10 * world.limits.rejoin_wait)
    assert not world.assigned(b"other")
    world.wait(2 * world.limits.rejoin_wait, b"other")
    assert world.assigned(b"other")


def test_a_node_has_as_long_to_answer_a_question(world: World) -> None:
    world.client()
    world.node()
    world.submit(1)
    world.drain((b"client", m.Query(9, "stacks", {"id": "job", "on_node": "node"})))
    stall(world, 2 * ANSWER_SECONDS)
    assert world.take(b"client", m.Reply) == []
    world.wait(ANSWER_SECONDS + 1, b"node")
    assert [reply.error for reply in world.take(b"client", m.Reply)] == [
        "node node has not answered"
    ]
