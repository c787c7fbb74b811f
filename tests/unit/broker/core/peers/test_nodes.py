"""Nodes: who is let in under a name, what a new link settles, and what silence leads to."""

from __future__ import annotations

import pytest

from harness.worlds.broker import LIMITS, World
from harness.worlds.keyed import KeyedWorld, key
from manyhands_broker.core import Calmed, KeysChanged, LinkClosed, Received, Stalled, Suspected
from manyhands_broker.core import records as r
from manyhands_shared.protocol import messages as m


def hello(
    name: str = "node", boot: bytes = b"node", slots: int = 2, protocol: int = m.PROTOCOL_VERSION
) -> m.WorkerHello:
    return m.WorkerHello(protocol, name, boot.ljust(16, b"_"), slots, 1_000, [], {})


def counters(world: World) -> dict[str, int]:
    found: dict[str, int] = world.ask("stats")["counters"]
    return found


def names(world: World) -> list[str]:
    return [node["name"] for node in world.ask("nodes")]


def close(world: World, peer: bytes) -> None:
    """The link of a peer is gone."""
    world.do(world.core.handle(LinkClosed(peer), world.now))
    world.drain()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (hello(protocol=99), "protocol"),
        (hello(name=""), "bad-hello"),
        (hello(slots=0), "bad-hello"),
    ],
)
def test_a_node_that_cannot_work_here_is_refused(
    world: World, said: m.WorkerHello, code: str
) -> None:
    world.drain((b"node", said))
    [refused] = world.take(b"node", m.Refused)
    assert refused.code == code
    assert names(world) == []


def test_a_link_is_one_nodes(world: World) -> None:
    world.node(b"node")
    world.drain((b"node", hello("another", b"another")))
    [refused] = world.take(b"node", m.Refused)
    assert (refused.code, "this link is node node's" in refused.reason) == ("bad-hello", True)
    assert names(world) == ["node"]


def test_a_second_node_of_a_name_is_refused_once_the_first_has_answered(world: World) -> None:
    world.node(b"node")
    world.drain((b"rival", hello("node", b"rival")))
    assert world.take(b"rival", m.Refused) == [], "first the broker asks the one that it has"
    [ping] = world.take(b"node", m.Ping)
    world.drain((b"node", m.Pong(ping.counter)))
    [refused] = world.take(b"rival", m.Refused)
    assert refused.code == "name-taken"
    assert counters(world)["refused_names"] == 1


def test_a_second_node_of_a_name_takes_the_place_of_one_whose_link_closes(world: World) -> None:
    world.node(b"node")
    world.submit(1)
    assert world.assigned()
    world.drain((b"rival", hello("node", b"rival")))
    close(world, b"node")
    assert world.take(b"rival", m.WorkerWelcome)
    assert list(world.assigned(b"rival")) == [("job", 0)], "what the first one had"
    assert names(world) == ["node"]


def test_a_second_node_of_a_name_takes_the_place_of_one_whose_lease_runs_out(world: World) -> None:
    world.node(b"node")
    world.submit(1)
    assert world.assigned()
    world.drain((b"rival", hello("node", b"rival")))
    world.wait(LIMITS.lease + 1)
    assert world.take(b"rival", m.WorkerWelcome)
    assert list(world.assigned(b"rival")) == [("job", 0)], "what the first one had"
    # It is the node now, with the grace of every node.
    close(world, b"rival")
    assert names(world) == ["node"]


def test_a_second_node_of_a_name_whose_key_is_revoked_takes_no_place() -> None:
    world = KeyedWorld()
    one, two = key("one", "worker"), key("two", "worker")
    for peer, who in ((b"node", one), (b"rival", two)):
        said = hello("node", peer)
        world.do(world.core.handle(Received(peer, said, who), world.now))
        world.drain()
    world.do(world.core.handle(KeysChanged({one.key: one}), world.now))
    [refused] = world.take(b"rival", m.Refused)
    assert refused.code == "revoked"
    close(world, b"node")
    assert not world.take(b"rival", m.WorkerWelcome)


def test_a_node_that_says_nothing_is_asked_and_then_condemned(world: World) -> None:
    world.node()
    world.submit(2)
    world.assigned()
    world.wait(3 * LIMITS.renew_interval + 1)
    assert world.take(b"node", m.Ping), "its link may say that it is dead"
    assert names(world) == ["node"]
    world.wait(LIMITS.lease)
    assert names(world) == []
    assert counters(world)["nodes_condemned"] == 1
    assert any("node node is gone: its lease ran out" in text for text in world.said)
    world.node(b"other", slots=8)
    assert sorted(world.assigned(b"other")) == [("job", 0), ("job", 1)]


def test_time_that_the_broker_missed_counts_against_no_lease(world: World) -> None:
    world.node()
    world.now += LIMITS.lease + 5.0
    world.do(world.core.handle(Stalled(LIMITS.lease + 5.0), world.now))
    world.drain()
    assert names(world) == ["node"]
    world.wait(LIMITS.lease + 1)
    assert names(world) == []


def test_suspicion_takes_nothing_and_is_counted_once(world: World) -> None:
    world.drain((b"node", hello()))
    [welcome] = world.take(b"node", m.WorkerWelcome)
    row = welcome.beat_row
    world.submit(1)
    world.assigned()
    for phi in (9.0, 12.0):
        world.do(world.core.handle(Suspected(row, b"node".ljust(16, b"_"), phi), world.now))
    assert world.ask("nodes")[0]["phi"] == 12.0
    assert len(world.take(b"node", m.Ping)) == 2
    assert counters(world)["suspicions"] == 1
    world.do(world.core.handle(Suspected(row, b"of another start", 20.0), world.now))
    assert world.ask("nodes")[0]["phi"] == 12.0, "heartbeats of an earlier process say nothing"
    world.do(world.core.handle(Calmed(row, b"node".ljust(16, b"_")), world.now))
    assert world.ask("nodes")[0]["phi"] == 0.0
    assert world.take(b"node", m.Cancel) == []


def test_a_node_that_comes_back_soon_keeps_what_it_still_holds(world: World) -> None:
    world.node(slots=4)
    world.submit(4)
    held = world.assigned()
    assert len(held) == 4
    close(world, b"node")
    [kept] = world.node(b"node", [m.Span("job", 1, [0, 2])], slots=4)
    assert sorted(kept.indices) == [0, 2]
    again = world.assigned()
    assert {index: attempt for (_, index), (attempt, _) in again.items()} == {1: 2, 3: 2}


def test_a_node_that_does_not_come_back_loses_its_tasks_long_before_its_lease(
    world: World,
) -> None:
    world.node()
    world.submit(1)
    world.assigned()
    world.node(b"other", slots=1)
    close(world, b"node")
    world.wait(LIMITS.link_grace + 0.1, b"other")
    assert any("node node is gone: its link closed" in text for text in world.said)
    assert list(world.assigned(b"other")) == [("job", 0)]
    assert LIMITS.link_grace < LIMITS.lease


def test_a_cancellation_that_a_lost_link_may_have_swallowed_is_repeated(world: World) -> None:
    world.node()
    world.submit(2)
    world.assigned()
    world.drain((b"client", m.Cancel([m.Span("job", 0, [1])])))
    assert world.take(b"node", m.Cancel)
    close(world, b"node")
    world.node(b"node", [m.Span("job", 1, [0, 1])])
    [cancel] = world.take(b"node", m.Cancel)
    assert cancel.spans == [m.Span("job", 1, [1])]


def test_a_drain_that_a_lost_link_may_have_swallowed_is_repeated(world: World) -> None:
    world.node()
    world.drain((b"client", m.Query(1, "drain", {"node": "node"})))
    assert world.take(b"node", m.Drain)
    close(world, b"node")
    world.node()
    assert world.take(b"node", m.Drain)
    world.submit(1)
    assert world.assigned() == {}, "it gets nothing new"


def test_output_of_a_task_that_the_node_does_not_hold_is_refused(world: World) -> None:
    world.node()
    world.node(b"other")
    world.submit(1)
    [holder] = [peer for peer in (b"node", b"other") if world.assigned(peer)]
    [stranger] = {b"node", b"other"} - {holder}
    for peer in (stranger, holder):
        world.drain((peer, m.Output("job", 1, 0, f"by {peer.decode()}\n")))
    assert counters(world)["refused_output"] == 1
    printed = [record.text for record in world.records if isinstance(record, r.TaskPrinted)]
    assert printed == [f"by {holder.decode()}\n"]


def test_what_a_node_never_says_is_counted_and_changes_nothing(world: World) -> None:
    world.node()
    world.drain((b"node", m.Attach("job")))
    assert counters(world)["unexpected_messages"] == 1
    world.drain((b"node", m.Ping(5)))
    assert world.take(b"node", m.Pong) == [m.Pong(5)]


def test_a_node_that_says_goodbye_is_blamed_for_nothing(world: World) -> None:
    world.node()
    world.submit(1, crash_limit=1)
    world.assigned()
    world.drain((b"node", m.Bye("scaled in")))
    found = counters(world)
    assert found["nodes_left"] == 1
    assert found.get("nodes_condemned", 0) == 0
    assert any("node node is gone: scaled in" in text for text in world.said)
    world.node(b"other")
    assert world.assigned(b"other") == {("job", 0): (2, b"arg0")}


def test_tasks_that_come_back_unstarted_go_elsewhere_also_if_they_run_once_only(
    world: World,
) -> None:
    world.node(slots=4)
    world.submit(4, at_most_once=True)
    assert len(world.assigned()) == 4
    world.node(b"other", slots=4)
    world.drain((b"node", m.Renew(0, 4, 0, [])), (b"node", m.Returned([m.Span("job", 1, [2, 3])])))
    given = world.assigned(b"other")
    assert sorted(index for _, index in given) == [2, 3]
    assert counters(world)["tasks_returned"] == 2
