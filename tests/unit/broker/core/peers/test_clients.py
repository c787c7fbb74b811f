"""Sessions: who may open one, what becomes of it without a link, and what silence leads to."""

from __future__ import annotations

import pytest

from harness.worlds.broker import LIMITS, World
from harness.worlds.keyed import KeyedWorld, key
from manyhands_broker.core import Limits, LinkClosed
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status

TOKEN = b"client.........."[:16]


def hello(token: bytes, protocol: int = m.PROTOCOL_VERSION, last_seq: int = 0) -> m.ClientHello:
    return m.ClientHello(protocol, token.ljust(16, b"."), "client", last_seq, 0, {})


def counters(world: World) -> dict[str, int]:
    found: dict[str, int] = world.ask("stats")["counters"]
    return found


def close(world: World, peer: bytes) -> None:
    """The link of a peer is gone."""
    world.do(world.core.handle(LinkClosed(peer), world.now))
    world.drain()


@pytest.mark.parametrize("protocol", [0, 99])
def test_another_protocol_is_refused_and_opens_no_session(world: World, protocol: int) -> None:
    world.drain((b"old", hello(b"old", protocol)))
    [refused] = world.take(b"old", m.Refused)
    assert refused.code == "protocol"
    assert f"this peer {protocol}" in refused.reason
    assert world.take(b"old", m.ClientWelcome) == []
    assert world.ask("stats")["sessions"] == 1
    assert counters(world)["refused_protocol"] == 1


def test_a_session_is_its_keys_and_no_other_key_takes_it_over() -> None:
    world = KeyedWorld()
    world.join(b"client", key("alice"))
    world.say(b"client", m.Ping(1))
    world.keys[b"thief"] = key("mallory")
    [refused] = world.say(b"thief", hello(b"client"))
    assert (refused.code, refused.reason) == (
        "bad-hello",
        "the session was opened with another key",
    )
    assert world.say(b"client", m.Ping(2)) == [m.Pong(2)], "its owner goes on"


def test_a_session_that_comes_back_gets_the_results_that_it_missed(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    close(world, b"client")
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    world.drain((b"again", hello(b"client")))
    [welcome] = world.take(b"again", m.ClientWelcome)
    assert welcome.resumed
    messages = world.take(b"again", m.Results)
    assert {index for each in messages for told in each.groups for index in told.indices} == {0, 1}
    last = max(each.seq for each in messages)
    close(world, b"again")
    world.drain((b"third", hello(b"client", last_seq=last)))
    assert world.results(b"third") == [], "what its hello acknowledges does not come again"


def test_a_session_that_stays_away_ends_with_its_work(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    assert len(world.assigned()) == 2
    close(world, b"client")
    world.wait(LIMITS.session_grace - 1, b"node")
    assert world.take(b"node", m.Cancel) == []
    world.wait(2, b"node")
    assert any("did not come back" in text for text in world.said)
    cancelled = {i for c in world.take(b"node", m.Cancel) for s in c.spans for i in s.indices}
    assert cancelled == {0, 1}
    world.client(b"other")
    stats = world.ask("stats", b"other")
    assert (stats["sessions"], stats["counters"]["sessions_expired"]) == (1, 1)


def test_a_session_that_came_back_has_its_whole_grace_again(world: World) -> None:
    world.drain((b"client", m.Ping(1)))
    close(world, b"client")
    world.wait(LIMITS.session_grace - 1)
    world.drain((b"again", hello(b"client")))
    assert world.take(b"again", m.ClientWelcome)[0].resumed
    world.drain((b"again", m.Ping(1)))
    close(world, b"again")
    world.wait(LIMITS.session_grace - 1)  # the grace of the first loss ends in here
    world.drain((b"third", hello(b"client")))
    [welcome] = world.take(b"third", m.ClientWelcome)
    assert welcome.resumed


def test_a_link_is_one_sessions(world: World) -> None:
    """A client that begins anew over the same link leaves its old session without one."""
    world.submit(1, durable=False)
    world.drain((b"client", hello(b"new")))
    world.drain((b"client", m.Ping(1)))
    assert world.ask("stats")["sessions"] == 2
    world.wait(LIMITS.session_grace + 1)
    world.drain((b"client", m.Ping(1)))
    assert world.ask("stats")["sessions"] == 1
    assert counters(world)["sessions_expired"] == 1


def test_a_client_that_is_silent_is_probed_and_one_that_speaks_is_not(world: World) -> None:
    interval = LIMITS.ping_interval
    for _ in range(6):
        world.wait(interval)
        world.drain((b"client", m.Ping(3)))
    assert world.take(b"client", m.Ping) == []
    world.wait(7 * interval)
    assert world.take(b"client", m.Ping)


def test_a_client_that_reads_no_answers_is_cut_off() -> None:
    world = World(Limits(answer_bytes=10_000))
    world.client()
    world.drain(*((b"client", m.Query(number, "stats", {})) for number in range(1, 200)))
    [refused] = world.take(b"client", m.Refused)
    assert (refused.code, refused.reason) == ("full", "it asks and does not read the answers")
    assert any("client client is cut off" in text for text in world.said)
    world.client(b"other")
    assert world.ask("stats", b"other")["sessions"] == 1


def test_what_a_client_never_says_is_counted_and_changes_nothing(world: World) -> None:
    world.drain((b"client", m.Renew(1, 1, 1, [])))
    assert counters(world)["unexpected_messages"] == 1
    world.drain((b"client", m.Ping(5)))
    assert world.take(b"client", m.Pong) == [m.Pong(5)]


def test_who_cancels_a_whole_job_of_another_client_has_its_session_know(world: World) -> None:
    """Its client must not submit the tasks again to the next broker."""
    world.submit(3, durable=False)
    world.client(b"admin")
    world.drain((b"admin", m.Cancel([m.Span("job", 0, [])])))
    assert {status for _, _, status in world.results()} == {Status.CANCELLED}
    [standing] = world.take(b"client", m.Standing)
    assert [(each.job, each.cancelled) for each in standing.jobs] == [("job", 3)]
    world.drain((b"admin", m.Cancel([m.Span("no such job", 0, [])])))


def test_a_client_that_cancels_its_own_job_is_not_told_what_it_knows(world: World) -> None:
    world.submit(3, durable=False)
    world.drain((b"client", m.Cancel([m.Span("job", 0, [1])])))
    assert world.results() == [("job", 1, Status.CANCELLED)]
    world.drain((b"client", m.Cancel([m.Span("job", 0, [])])))
    assert world.results() == [("job", 0, Status.CANCELLED), ("job", 2, Status.CANCELLED)]
    assert world.take(b"client", m.Standing) == []


def test_a_goodbye_ends_the_session_at_once(world: World) -> None:
    world.node()
    world.submit(1, durable=False)
    world.drain((b"client", m.Bye("done")))
    [cancel] = world.take(b"node", m.Cancel)
    assert cancel.spans == [m.Span("job", 1, [0])]
    world.drain((b"client", hello(b"client")))
    welcome = world.take(b"client", m.ClientWelcome)[-1]
    assert not welcome.resumed
