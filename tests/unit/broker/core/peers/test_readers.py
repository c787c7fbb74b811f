"""Readers of a durable job: what attaching gives, what is held back, and what is told again."""

from __future__ import annotations

import random

import pytest

from harness.worlds.broker import World
from manyhands_broker.core import Limits
from manyhands_shared.protocol import messages as m


def test_attach_gives_what_was_and_what_comes(world: World) -> None:
    world.node()
    world.submit(3)
    world.assigned()
    world.drain((b"node", world.result(0)))
    world.client(b"other")
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    assert world.results(b"other") == [("job", 0, 0)]
    world.drain((b"node", world.result(1)))
    assert world.results(b"other") == [("job", 1, 0)]
    world.drain((b"other", m.Detach("job")))
    world.drain((b"node", world.result(2)))
    assert world.results(b"other") == []
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    assert sorted(world.results(b"other")) == [("job", index, 0) for index in range(3)]


def test_attaching_in_the_drain_in_which_the_job_ends(world: World) -> None:
    world.node()
    world.submit()
    world.assigned()
    world.drain((b"client", m.Attach("job")), (b"node", world.result(0)))
    world.wait(0.1, b"node")
    assert world.results() == [("job", 0, 0)]


def test_attach_to_what_is_not_there(world: World) -> None:
    world.submit(durable=False)
    world.drain((b"client", m.Attach("job")), (b"client", m.Attach("none")))
    assert not world.core.state.readers
    assert world.take(b"client", m.Detach) == [m.Detach("none")], "one's own attached job goes on"
    world.client(b"other")
    world.drain((b"other", m.Attach("job")))
    assert world.take(b"other", m.Detach) == [m.Detach("job")]


@pytest.mark.parametrize("over", [False, True], ids=["running", "over"])
def test_results_that_are_held_back_come_later_from_where_they_stopped(over: bool) -> None:
    world = World()
    world.client()
    world.client(b"other")
    world.node()
    world.submit(4, closed=over)
    world.drain((b"other", m.Attach("job")))
    given = world.assigned()
    world.drain((b"node", world.result(0)))
    assert world.results(b"other") == [("job", 0, 0)]
    world.drain((b"other", m.Throttle("job", hold=True)))
    world.drain((b"other", m.Throttle("job", hold=True)), (b"other", m.Throttle("no", hold=True)))
    for index in range(1, 4):
        if ("job", index) not in given:
            given = world.assigned()
        world.drain((b"node", world.result(index)))
    world.wait(1.0, b"node")
    assert world.results(b"other") == []
    assert world.core.wake_at is None or world.core.wake_at > world.now + 1e-3, "no idle turns"
    world.drain((b"other", m.Throttle("job", hold=False)))
    world.wait(0.1, b"node")
    assert world.results(b"other") == [("job", index, 0) for index in range(1, 4)]
    world.drain((b"other", m.Throttle("job", hold=False)))
    if not over:
        world.submit(1, first=4)
        world.assigned()
        world.drain((b"node", world.result(4)))
        assert world.results(b"other") == [("job", 4, 0)], "and again as they come"
    assert not world.core.state.paused_readers


def test_who_leaves_while_results_are_held_back_leaves_nothing() -> None:
    world = World()
    world.client()
    world.node()
    world.submit(2)
    for farewell in (m.Detach("job"), m.Bye("")):
        world.client(b"other")
        world.drain((b"other", m.Attach("job")), (b"other", m.Throttle("job", hold=True)))
        assert world.core.state.paused_readers
        world.drain((b"other", farewell))
        assert not world.core.state.paused_readers


@pytest.mark.parametrize("seed", range(30))
def test_attached_readers_miss_nothing_and_see_nothing_twice(seed: int) -> None:
    rng = random.Random(seed)
    world = World(Limits(lease=1e6, page_bytes=rng.choice([1, 30, 1000]), result_bytes=2_000))
    world.client()
    count = 60
    world.node(slots=count)
    world.submit(count)
    waiting = list(range(count))
    readers: dict[bytes, list[int]] = {}
    seqs: dict[bytes, int] = {}

    def look() -> None:
        for peer in readers:
            for message in world.take(peer, m.Results):
                assert message.seq == seqs.get(peer, 0) + 1
                seqs[peer] = message.seq
                readers[peer] += [i for group in message.groups for i in group.indices]

    holds = bool(seed % 2)  # then what is not committed yet is told again
    for _ in range(400):
        said: list[tuple[bytes, m.Message]] = []
        for _ in range(rng.choice([0, 1, 1, 3])):
            chance = rng.random()
            if chance < 0.5 and waiting:
                index = waiting.pop(rng.randrange(len(waiting)))
                said.append((b"node", world.result(index)))
            elif chance < 0.6 and len(readers) < 3:
                peer = b"reader%d" % len(readers)
                world.client(peer)
                readers[peer] = []
                said.append((peer, m.Attach("job")))
            elif chance < 0.7 and holds and readers:
                peer = rng.choice(list(readers))
                said.append((peer, m.Throttle("job", hold=rng.random() < 0.5)))
            elif readers:
                peer = rng.choice(list(readers))
                said.append((peer, m.Ack(seqs.get(peer, 0))))
        world.now += rng.choice([0.0, 0.01])
        world.drain(*said)
        look()
    world.drain(*((peer, m.Throttle("job", hold=False)) for peer in readers))
    for _ in range(100):
        world.now += 0.01
        world.drain(*((peer, m.Ack(seq)) for peer, seq in seqs.items()))
        look()
    assert not waiting
    for peer, seen in readers.items():
        assert sorted(set(seen) if holds else seen) == list(range(count)), f"{peer!r}, seed {seed}"


def test_a_reader_that_takes_nothing_is_given_no_more(world: World) -> None:
    world.limits = Limits(lease=1e6, result_bytes=1_000)
    world.restart()
    world.client()
    world.node(slots=100)
    world.submit(100)
    world.drain((b"client", m.Attach("job")))
    world.wait(0.1, b"node")
    for index in range(100):
        world.drain((b"node", world.result(index)))
    session = world.core.state.session_of[b"client"]
    assert session.unacked_bytes < 2_000
    seen: list[tuple[str, int, int]] = []
    while len(seen) < 100:
        more = world.results()
        assert more
        seen += more
        world.drain((b"client", m.Ack(session.seq)))
        world.wait(0.01, b"node")
    assert sorted(seen) == [("job", index, 0) for index in range(100)]


def test_the_end_of_a_reader_leaves_nothing(world: World) -> None:
    world.node()
    world.submit(2)
    world.client(b"other")
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    world.drain((b"other", m.Bye("")))
    assert not world.core.state.readers
    assert not world.core.state.jobs["job"].subscribers
    world.run_all()


def test_many_large_results_in_one_drain_are_split(world: World) -> None:
    world.node(slots=600)
    world.submit(600, durable=False)
    given = world.assigned()
    body = b"x" * 60_000
    said = [(b"node", world.result(i, n, body=body)) for (_, i), (n, _) in given.items()]
    world.drain(*said)
    messages = world.take(b"client", m.Results)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    sizes = [sum(len(b) for g in message.groups for b in g.bodies) for message in messages]
    assert sum(sizes) == 600 * 60_000
    assert max(sizes) < 10 << 20
