"""The connector, over real sockets: what it yields, when it opens the next link, what it refuses."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from harness.processes import eventually
from manyhands_shared.errors import NotAuthorised
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message, Ping, Pong
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.transport.failover import Route
from manyhands_shared.transport.link.connector import Connector, Lost, Up
from manyhands_shared.transport.stream import Stream

Make = Callable[..., Connector]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Connector] = []

    def connector(address: str, **options: object) -> Connector:
        made.append(
            Connector(Route(address), None, key_option="--key-file", **options)  # type: ignore[arg-type]
        )
        return made[-1]

    yield connector
    for one in made:
        one.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "broker"))
        sock.listen()
        yield sock


def _address(listener: socket.socket) -> str:
    return f"unix://{listener.getsockname()}"


def _next(connector: Connector) -> Up | Lost | Message:
    """What the connector yields next, in real time."""
    found: list[Up | Lost | Message] = []

    def turn() -> bool:
        found.extend(connector.turn(time.monotonic()))
        connector.wake()
        return bool(found)

    eventually(turn)
    assert len(found) == 1
    return found[0]


def test_a_message_comes_behind_up(make: Make, listener: socket.socket) -> None:
    connector = make(_address(listener))
    assert list(connector.turn(0.0)) == []
    assert list(connector.turn(time.monotonic())) == [Up()]
    peer = Stream(listener.accept()[0])
    peer.send(wire.encode(Pong(1)))
    select.select(connector.descriptors, [], [], 100)
    connector.wake()
    assert list(connector.turn(time.monotonic())) == [Pong(1)]
    connector.send(Ping(2))
    select.select([peer.fileno()], [], [], 100)
    assert [wire.decode(frames) for frames in peer.receive()] == [Ping(2)]
    peer.close()


def test_the_next_link_is_opened_after_a_pause_that_doubles(
    make: Make, listener: socket.socket
) -> None:
    connector = make(_address(listener))
    list(connector.turn(0.0))
    now = 1.0  # long past: no link connects by itself, for it is due at the time that it was made
    for longest in (0.05, 0.1, 0.2, 0.4):
        connector.reconnect(now)
        connector.reconnect(now)  # without a link there is nothing to give up
        assert connector.deadline is not None
        assert longest / 2 <= connector.deadline - now <= longest
        now = connector.deadline
        assert list(connector.turn(now - 1e-6)) == []
        assert connector.link is None, "not before it is due"
        assert list(connector.turn(now)) == []
        assert connector.link is not None
    assert _next(connector) == Up()
    connector.reconnect(now)
    assert connector.deadline is not None
    assert connector.deadline - now <= 0.05, "after a link that was up the pause is short again"


def test_a_loss_is_told_once_and_another_link_follows(make: Make, listener: socket.socket) -> None:
    connector = make(_address(listener))
    assert _next(connector) == Up()
    listener.accept()[0].close()
    assert _next(connector) == Lost()
    assert connector.link is None
    assert _next(connector) == Up()


def test_what_a_caller_gave_up_brings_no_more(make: Make, listener: socket.socket) -> None:
    connector = make(_address(listener))
    assert _next(connector) == Up()
    peer = Stream(listener.accept()[0])
    for number in range(3):
        peer.send(wire.encode(Pong(number)))
    select.select(connector.descriptors, [], [], 100)
    taken = []
    for message in connector.turn(time.monotonic()):
        taken.append(message)
        connector.reconnect(time.monotonic())
    assert taken == [Pong(0)]
    peer.close()


def test_descriptors_are_open_when_a_link_is_about_to_close(
    make: Make, listener: socket.socket
) -> None:
    states: list[os.stat_result] = []

    def before_close() -> None:
        states.extend(os.fstat(fd) for fd in connector.descriptors)

    connector = make(_address(listener), before_close=before_close)
    assert _next(connector) == Up()
    connector.reconnect(time.monotonic())
    assert len(states) == 1


def test_the_address_that_answers_is_found(make: Make) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            dead = closed.getsockname()[1]
            connector = make(f"tcp://127.0.0.1:{dead},tcp://127.0.0.1:{port}")
            assert _next(connector) == Up()
        connector.close()


def test_a_broker_that_wants_a_key_is_named_with_the_option_for_it(make: Make) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_secretkey = ClusterKey.new().pair("broker").secret
        port = router.bind_to_random_port("tcp://127.0.0.1")
        connector = make(f"tcp://127.0.0.1:{port}")
        with pytest.raises(NotAuthorised, match=r"wants a key \(--key-file names the file\)"):
            _next(connector)
        connector.close()


@pytest.mark.parametrize("limit", [0, 2])
def test_handshakes_that_break_off_refuse_only_by_their_number(make: Make, limit: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = make(f"tcp://127.0.0.1:{server.getsockname()[1]}", broken_handshakes=limit)

        def break_off() -> None:
            for _ in range(3):
                connection = server.accept()[0]
                connection.recv(1)  # its greeting, so that the handshake has begun
                connection.close()
                deadline = time.monotonic() + 100
                while not connector.pending() and time.monotonic() < deadline:
                    if select.select(connector.descriptors, [], [], 100)[0]:
                        connector.wake()
                assert list(connector.turn(time.monotonic())) == []

        list(connector.turn(time.monotonic()))
        if limit:
            with pytest.raises(NotAuthorised, match="breaks off the handshake"):
                break_off()
        else:
            break_off()
