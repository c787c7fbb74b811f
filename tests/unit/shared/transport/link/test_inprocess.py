"""A link inside one process."""

from __future__ import annotations

import pytest

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Ping, Pong, ResultGroup, Results
from manyhands_shared.transport.link import LinkEvent
from manyhands_shared.transport.link.inprocess import Junction


@pytest.fixture
def junction() -> Junction:
    return Junction()


def waits(junction: Junction) -> bool:
    """Whether something is on its way, as the checker must ask anew each time."""
    return junction.pending


def results(*bodies: Payload) -> Results:
    count = len(bodies)
    return Results(1, [ResultGroup("job", 1, list(range(count)), bytes(count), [*bodies], 0.0)])


def test_it_is_up_at_once_and_says_so_once(junction: Junction) -> None:
    assert not waits(junction)
    link = junction.connect()
    assert waits(junction)
    assert link.event(0.0) is LinkEvent.UP
    assert link.event(0.0) is None
    assert not waits(junction)
    assert not link.descriptors


def test_messages_pass_both_ways_in_order(junction: Junction) -> None:
    link = junction.connect()
    link.event(0.0)
    link.send(Ping(1))
    link.send(Ping(2))
    (peer, first), (_, second) = junction.mail
    assert [first, second] == [Ping(1), Ping(2)]
    assert junction.send(peer, Pong(1))
    assert junction.send(peer, Pong(2))
    assert waits(junction)
    assert link.receive() == [Pong(1), Pong(2)]
    assert not waits(junction)
    assert link.receive() == []


def test_an_old_link_gets_nothing_of_a_new_one(junction: Junction) -> None:
    old = junction.connect()
    old.send(Ping(1))
    old.close()
    old.close()
    [(peer, _), ended] = junction.mail
    assert ended == (peer, None), "and once only"
    new = junction.connect()
    new.event(0.0)
    assert not junction.send(peer, Pong(1))
    assert not waits(junction)
    new.send(Ping(2))
    assert junction.mail[-1][0] != peer


def test_results_are_kept_from_memory_that_is_used_again(junction: Junction) -> None:
    link = junction.connect()
    slab = bytearray(b"first")
    sent = results(b"small", (b"head", memoryview(slab)))
    link.send(sent)
    slab[:] = b"other"
    _, message = junction.mail[0]
    assert message == results(b"small", (b"head", b"first"))
    assert sent.groups[0].bodies[1][1] == b"other", "the node's own is as it was"


def test_small_results_are_not_copied(junction: Junction) -> None:
    link = junction.connect()
    sent = results(b"small", b"more")
    link.send(sent)
    assert junction.mail[0][1] is sent
