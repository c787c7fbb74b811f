"""A link inside one process."""

from __future__ import annotations

import pytest

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Ping, Pong, ResultGroup, Results
from manyhands_shared.transport.link import LinkEvent
from manyhands_shared.transport.link.inprocess import InProcessHub


@pytest.fixture
def hub() -> InProcessHub:
    return InProcessHub()


def waits(hub: InProcessHub) -> bool:
    """Whether something is on its way, as the checker must ask anew each time."""
    return hub.pending


def results(*bodies: Payload) -> Results:
    count = len(bodies)
    return Results(1, [ResultGroup("job", 1, list(range(count)), bytes(count), [*bodies], 0.0)])


def test_it_is_up_at_once_and_says_so_once(hub: InProcessHub) -> None:
    assert not waits(hub)
    link = hub.connect()
    assert waits(hub)
    assert link.event(0.0) is LinkEvent.UP
    assert link.event(0.0) is None
    assert not waits(hub)
    assert not link.descriptors


def test_messages_pass_both_ways_in_order(hub: InProcessHub) -> None:
    link = hub.connect()
    link.event(0.0)
    link.send(Ping(1))
    link.send(Ping(2))
    (peer, first), (_, second) = hub.mail
    assert [first, second] == [Ping(1), Ping(2)]
    assert hub.send(peer, Pong(1))
    assert hub.send(peer, Pong(2))
    assert waits(hub)
    assert link.receive() == [Pong(1), Pong(2)]
    assert not waits(hub)
    assert link.receive() == []


def test_an_old_link_gets_nothing_of_a_new_one(hub: InProcessHub) -> None:
    old = hub.connect()
    old.send(Ping(1))
    old.close()
    old.close()
    [(peer, _), ended] = hub.mail
    assert ended == (peer, None), "and once only"
    new = hub.connect()
    new.event(0.0)
    assert not hub.send(peer, Pong(1))
    assert not waits(hub)
    new.send(Ping(2))
    assert hub.mail[-1][0] != peer


def test_results_are_kept_from_memory_that_is_used_again(hub: InProcessHub) -> None:
    link = hub.connect()
    slab = bytearray(b"first")
    sent = results(b"small", (b"head", memoryview(slab)))
    link.send(sent)
    slab[:] = b"other"
    _, message = hub.mail[0]
    assert message == results(b"small", (b"head", b"first"))
    assert sent.groups[0].bodies[1][1] == b"other", "the node's own is as it was"


def test_small_results_are_not_copied(hub: InProcessHub) -> None:
    link = hub.connect()
    sent = results(b"small", b"more")
    link.send(sent)
    assert hub.mail[0][1] is sent
