"""Printed lines go to the session whose job it is, to no other, and nothing waits for them."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core.peers.relays import printing
from manyhands_shared.protocol import messages as m


def group(
    text: str = "line\n", job: str = "job", *, attempt: int = 1, lost: int = 0
) -> m.PrintedGroup:
    return m.PrintedGroup(job, attempt, 0, 1, lost, text)


def shown(world: World, peer: bytes = b"client") -> list[str]:
    return [part.text for said in world.take(peer, m.Printed) for part in said.groups]


@pytest.fixture
def world() -> World:
    made = World()
    made.client()
    made.client(b"other")
    made.node()
    made.node(b"idle", slots=1)
    made.submit(1, durable=False, echo=True)
    return made


def holder(world: World) -> bytes:
    return next(peer for peer in (b"node", b"idle") if world.assigned(peer))


def test_they_go_to_the_session_of_the_job_before_its_results(world: World) -> None:
    node = holder(world)
    world.drain((node, m.Printed("forged", [group()])), (node, world.result(0, 1)))
    kinds = [type(message) for message in world.inbox[b"client"]]
    assert kinds.index(m.Printed) < kinds.index(m.Results)
    [told] = world.take(b"client", m.Printed)
    assert (told.node, [part.text for part in told.groups]) == (node.decode(), ["line\n"])
    assert shown(world, b"other") == []


def test_a_node_is_heard_of_jobs_that_it_runs_alone(world: World) -> None:
    other = b"idle" if holder(world) == b"node" else b"node"
    world.drain((other, m.Printed("", [group("forged\n"), group(job="none")])))
    assert shown(world) == []
    assert world.core.state.counters["refused_output"] == 2


@pytest.mark.parametrize("durable", [True, False])
def test_jobs_that_do_not_want_it_get_nothing(world: World, durable: bool) -> None:
    world.submit(1, "quiet", durable=durable)
    node = next(peer for peer in (b"node", b"idle") if ("quiet", 0) in world.assigned(peer))
    world.drain((node, m.Printed("", [group(job="quiet")])))
    assert shown(world) == []


def test_a_client_that_does_not_read_is_told_later_how_much_it_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printing, "UNREAD_BYTES", 200_000)
    node = holder(world)
    text = "x" * 999 + "\n"
    for _ in range(30):
        world.drain((node, m.Printed("", [group(text * 10)])))
    session = world.core.state.session_of[b"client"]
    assert session.printed.nbytes <= 200_000
    first = shown(world)
    assert 150_000 < sum(map(len, first)) < 200_000
    pings = world.take(b"client", m.Ping)
    world.drain(*((b"client", m.Pong(ping.counter)) for ping in pings))
    [told] = world.take(b"client", m.Printed)
    assert [part.lost for part in told.groups] == [300 - 10 * len(first)]
    world.drain((node, m.Printed("", [group("again\n")])))
    assert shown(world) == ["again\n"]


def test_a_client_without_a_link_is_told_when_it_is_back(world: World) -> None:
    node = holder(world)
    session = world.core.state.session_of[b"client"]
    world.core._clients.lost(session, world.now)
    world.drain((node, m.Printed("", [group("a\nb\n")])))
    world.drain((b"anew", m.ClientHello(1, session.token, "client", 0, 0, {})))
    world.drain((node, m.Printed("", [group("c\n", lost=1)])))
    [told] = world.take(b"anew", m.Printed)
    assert [(part.lost, part.text) for part in told.groups] == [(2, ""), (1, "c\n")]
