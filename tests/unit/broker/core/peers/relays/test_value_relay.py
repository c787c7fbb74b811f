"""Stored values: asked for once, passed on to all who wait, and no longer had when they are gone."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, LinkClosed, Received, Send
from manyhands_broker.core.peers.relays import value_relay
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.public_name import public_name

KEY = b"k" * 16
TOKEN = b"t" * 16
OWNER = public_name(TOKEN)


class World:
    """A broker's core with a client and two nodes."""

    def __init__(self) -> None:
        self.core = Core(Limits(session_grace=30.0), bytes(16), MemoryJournal(), 0.0)
        self.now = 0.0
        self.hello()
        for name in ("a", "b"):
            hello = m.WorkerHello(1, name, name.encode() * 16, 1, 8, [], {})
            self.say(name.encode(), hello)

    def say(self, peer: bytes, message: m.Message) -> list[tuple[bytes, Any]]:
        return self.tell(Received(peer, message))

    def tell(self, event: Any) -> list[tuple[bytes, Any]]:
        """What is sent for an event: who gets which `Want` or `Stock`."""
        effects = self.core.handle(event, self.now)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        wanted = (m.Want, m.Stock)
        return [(send.peer, send.message) for send in sends if isinstance(send.message, wanted)]

    def hello(self, peer: bytes = b"c", token: bytes = TOKEN) -> list[tuple[bytes, Any]]:
        sent = self.say(peer, m.ClientHello(1, token, "", 0, 0, {}))
        self.say(peer, m.Ping(1))
        return sent


@pytest.fixture
def world() -> World:
    return World()


def test_a_value_is_asked_for_once_and_goes_to_all_who_wait(world: World) -> None:
    assert world.say(b"a", m.Want(KEY, OWNER)) == [(b"c", m.Want(KEY, OWNER))]
    assert world.say(b"b", m.Want(KEY, OWNER)) == []
    stock = m.Stock(KEY, [(b"data",)])
    assert world.say(b"c", stock) == [(b"a", stock), (b"b", stock)]
    # It stores none, so a node that comes later has it asked for again.
    assert world.say(b"b", m.Want(KEY, OWNER)) == [(b"c", m.Want(KEY, OWNER))]


def test_what_is_gone_is_gone_for_all_who_have_it_or_wait(world: World) -> None:
    world.say(b"a", m.Want(KEY, OWNER))
    world.say(b"c", m.Stock(KEY, [b"data"]))
    world.say(b"b", m.Want(KEY, OWNER))
    gone = m.Stock(KEY, [])
    assert sorted(world.say(b"c", gone), key=str) == [(b"a", gone), (b"b", gone)]
    assert world.say(b"c", gone) == []


def test_the_end_of_a_session_is_the_end_of_its_values(world: World) -> None:
    world.say(b"a", m.Want(KEY, OWNER))
    assert world.say(b"c", m.Bye("done")) == [(b"a", m.Stock(KEY, []))]
    world.now = 31.0
    assert world.say(b"a", m.Want(KEY, OWNER)) == [(b"a", m.Stock(KEY, []))]


def test_a_session_that_comes_back_is_asked_again(world: World) -> None:
    world.say(b"a", m.Want(KEY, OWNER))
    world.tell(LinkClosed(b"c"))
    assert world.hello(b"d") == [(b"d", m.Want(KEY, OWNER))]


def test_after_a_start_owners_have_a_while_to_come_back(world: World) -> None:
    late = public_name(b"l" * 16)
    assert world.say(b"a", m.Want(KEY, late)) == []
    assert world.hello(b"l", b"l" * 16) == [(b"l", m.Want(KEY, late))]
    other = b"o" * 16
    assert world.say(b"a", m.Want(other, public_name(other))) == []
    world.now = 30.0
    for node in (b"a", b"b"):
        world.say(node, m.Renew(1, 1, 8, []))  # neither is condemned meanwhile
    assert (b"a", m.Stock(other, [])) in world.tell(Drained())


def test_nobody_answers_for_another(world: World) -> None:
    world.hello(b"x", b"x" * 16)
    world.say(b"a", m.Want(KEY, OWNER))
    assert world.say(b"x", m.Stock(KEY, [b"forged"])) == []
    assert world.say(b"x", m.Stock(KEY, [])) == []
    stock = m.Stock(KEY, [b"true"])
    assert world.say(b"c", stock) == [(b"a", stock)]


def test_nodes_that_are_gone_are_forgotten(world: World) -> None:
    world.say(b"a", m.Want(KEY, OWNER))
    world.say(b"a", m.Bye("leaves"))
    assert world.say(b"c", m.Stock(KEY, [b"data"])) == []
    assert not any(world.core._value_relay._shelves.values())


def test_a_node_waits_for_a_bounded_number_of_values(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_relay, "MOST_WAITS", 3)
    late = b"l" * 16
    keys = [b"%016d" % number for number in range(5)]
    for key in keys[:3]:
        assert world.say(b"a", m.Want(key, late)) == []
    for key in keys[3:]:
        assert world.say(b"a", m.Want(key, late)) == [(b"a", m.Stock(key, []))]
    # Another node waits all the same.
    assert world.say(b"b", m.Want(keys[3], late)) == []


def test_a_node_that_has_got_its_values_may_want_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_relay, "MOST_WAITS", 3)
    keys = [b"%016d" % number for number in range(9)]
    for key in keys:
        want, stock = m.Want(key, OWNER), m.Stock(key, [b"value"] if key in keys[:5] else [])
        assert world.say(b"a", want) == [(b"c", want)]
        # It is counted once, however often it asks.
        assert world.say(b"a", want) == []
        assert world.say(b"c", stock) == [(b"a", stock)]
