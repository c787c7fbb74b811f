"""A node's place in the broker's loop, with a plain poll and real descriptors."""

from __future__ import annotations

import math
import select
import selectors
import socket
from collections.abc import Callable, Iterator

import pytest

from manyhands_broker.core import LinkClosed, Received
from manyhands_broker.ports.inprocess import Lodging
from manyhands_shared.protocol.messages import Ping, Pong
from manyhands_shared.transport.link import Link

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Node:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.turns: list[float] = []
        self.deadline = math.inf
        self.code: int | None = None
        self.link: Link | None = None

    def turn(self, now: float) -> None:
        self.turns.append(now)
        if self.link is not None:
            self.link.event(now)
            self.link.receive()


class Loop:
    """The part of the broker's loop that watches descriptors."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Callable[[int], object]] = {}
        self.node = Node()
        self.lodging = Lodging(self._watch, self._ignore)
        self.lodging.take_in(self.node)

    def _watch(self, descriptor: int, call: Callable[[int], object], events: int) -> None:
        self._calls[descriptor] = call
        self._poll.register(descriptor, events)

    def _ignore(self, descriptor: int) -> None:
        del self._calls[descriptor]
        self._poll.unregister(descriptor)

    def look(self) -> None:
        for descriptor, events in self._poll.poll(0):
            self._calls[descriptor](events)


@pytest.fixture
def loop() -> Loop:
    made = Loop()
    made.lodging.turn(0.0)
    made.node.turns.clear()
    return made


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_node_turns_first_of_all() -> None:
    loop = Loop()
    assert loop.lodging.due == 0.0
    loop.lodging.turn(1.0)
    assert loop.node.turns == [1.0]


def test_it_does_not_turn_for_nothing(loop: Loop) -> None:
    loop.lodging.turn(1.0)
    assert loop.node.turns == []
    assert loop.lodging.due == math.inf


def test_it_turns_when_it_is_due(loop: Loop) -> None:
    loop.node.deadline = 5.0
    assert loop.lodging.due == 5.0
    loop.lodging.turn(4.9)
    assert loop.node.turns == []
    loop.lodging.turn(5.0)
    assert loop.node.turns == [5.0]


def test_what_is_ready_is_told_as_a_selector_tells_it(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    key = loop.lodging.register(near, READ, seen.append)
    assert loop.lodging.get_map() == {near.fileno(): key}
    loop.look()
    assert seen == []
    far.send(b"x")
    loop.look()
    assert seen == [READ]
    loop.lodging.modify(near, READ | WRITE, seen.append)
    loop.look()
    assert seen == [READ, READ | WRITE]
    assert loop.lodging.due == 0.0
    loop.lodging.turn(1.0)
    assert loop.node.turns == [1.0]


def test_an_end_is_for_whoever_listens(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    loop.lodging.register(near.fileno(), READ, seen.append)
    far.close()
    loop.look()
    assert seen == [READ]


def test_what_is_ignored_is_not_told_of(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    loop.lodging.register(near, READ, seen.append)
    far.send(b"x")
    loop.lodging.unregister(near)
    loop.look()
    assert seen == []
    assert not loop.lodging.get_map()


def test_messages_and_ends_of_links_become_events(loop: Loop) -> None:
    link = loop.node.link = loop.lodging.junction.connect()
    loop.lodging.turn(1.0)
    link.send(Ping(7))
    assert loop.lodging.due == 0.0, "the broker has something to take"
    link.close()
    received, closed = loop.lodging.events()
    assert isinstance(received, Received)
    assert isinstance(closed, LinkClosed)
    assert received.message == Ping(7)
    assert received.peer == closed.peer
    assert loop.lodging.events() == []
    assert not loop.lodging.send(closed.peer, Pong(7))


def test_a_message_for_the_node_makes_it_turn(loop: Loop) -> None:
    link = loop.node.link = loop.lodging.junction.connect()
    loop.lodging.turn(1.0)
    link.send(Ping(7))
    [received] = loop.lodging.events()
    assert isinstance(received, Received)
    assert loop.lodging.send(received.peer, Pong(7))
    assert not loop.lodging.send(b"somebody else", Pong(7))
    assert loop.lodging.due == 0.0
    loop.lodging.turn(2.0)
    assert loop.node.turns == [1.0, 2.0]
    assert loop.lodging.due == math.inf


def test_it_tells_when_the_node_has_left(loop: Loop) -> None:
    assert loop.lodging.code is None
    loop.node.code = 0
    assert loop.lodging.code == 0
