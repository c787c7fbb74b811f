"""A node's place in the broker's loop, with a plain poll and real descriptors."""

from __future__ import annotations

import math
import selectors
import socket
from collections.abc import Iterator

import pytest

from manyhands_broker.core import Event, LinkClosed, Received
from manyhands_broker.poller import Poller
from manyhands_broker.ports.inprocess import InProcessPort
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
    """The part of the broker's loop that turns the port, on a clock that stands still."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.node = Node()
        self.now = 0.0
        self.port = InProcessPort(self.poller, lambda: self.now)
        self.exits = 0
        self.port.take_in(self.node, self._leave)

    @property
    def due(self) -> float:
        return self.port.due(self.now)

    def look(self) -> None:
        self.poller.call(self.poller.wait(0))

    def turn(self, now: float) -> list[Event]:
        """What the port has received."""
        self.now = now
        events: list[Event] = []
        self.port.receive({}, now, events.append)
        return events

    def _leave(self) -> None:
        self.exits += 1


@pytest.fixture
def loop() -> Loop:
    made = Loop()
    made.turn(0.0)
    made.node.turns.clear()
    return made


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_node_turns_first_of_all() -> None:
    loop = Loop()
    assert loop.due == 0.0
    loop.turn(1.0)
    assert loop.node.turns == [1.0]


def test_it_does_not_turn_for_nothing(loop: Loop) -> None:
    loop.turn(1.0)
    assert loop.node.turns == []
    assert loop.due == math.inf


def test_it_turns_when_it_is_due(loop: Loop) -> None:
    loop.node.deadline = 5.0
    assert loop.due == 5.0
    loop.turn(4.9)
    assert loop.node.turns == []
    loop.turn(5.0)
    assert loop.node.turns == [5.0]


def test_what_is_ready_is_told_as_a_selector_tells_it(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    key = loop.port.selector.register(near, READ, seen.append)
    assert loop.port.selector.get_map() == {near.fileno(): key}
    loop.look()
    assert seen == []
    far.send(b"x")
    loop.look()
    assert seen == [READ]
    loop.port.selector.modify(near, READ | WRITE, seen.append)
    loop.look()
    assert seen == [READ, READ | WRITE]
    assert loop.due == 0.0
    loop.turn(1.0)
    assert loop.node.turns == [1.0]


def test_an_end_is_for_whoever_listens(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    loop.port.selector.register(near.fileno(), READ, seen.append)
    far.close()
    loop.look()
    assert seen == [READ]


def test_what_is_ignored_is_not_told_of(
    loop: Loop, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    seen: list[int] = []
    loop.port.selector.register(near, READ, seen.append)
    far.send(b"x")
    loop.port.selector.unregister(near)
    loop.look()
    assert seen == []
    assert not loop.port.selector.get_map()


def test_messages_and_ends_of_links_become_events(loop: Loop) -> None:
    link = loop.node.link = loop.port.hub.connect()
    loop.turn(1.0)
    link.send(Ping(7))
    assert loop.due == 0.0, "the broker has something to take"
    link.close()
    received, closed = loop.turn(1.0)
    assert isinstance(received, Received)
    assert isinstance(closed, LinkClosed)
    assert received.message == Ping(7)
    assert received.peer == closed.peer
    assert loop.turn(1.0) == []
    assert not loop.port.send(closed.peer, Pong(7))


def test_a_message_for_the_node_makes_it_turn(loop: Loop) -> None:
    link = loop.node.link = loop.port.hub.connect()
    loop.turn(1.0)
    link.send(Ping(7))
    [received] = loop.turn(1.0)
    assert isinstance(received, Received)
    assert loop.port.send(received.peer, Pong(7))
    assert not loop.port.send(b"another peer", Pong(7))
    assert loop.due == 0.0
    loop.turn(2.0)
    assert loop.node.turns == [1.0, 2.0]
    assert loop.due == math.inf


@pytest.mark.parametrize("code", [None, 0, 3])
def test_it_tells_when_the_node_has_left(loop: Loop, code: int | None) -> None:
    loop.node.code = code
    loop.port.finish()
    assert loop.port.code == code
    assert loop.exits == (code is not None)
