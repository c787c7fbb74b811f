"""Connections that do not say hello: how many, for how long, and which are shut first."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest
import zmq

from harness.processes import eventually
from manyhands_broker.core import ANYBODY
from manyhands_broker.descriptor_reserve import RESERVE, opened, reserve, set_aside, watched_by
from manyhands_broker.ports.pending_connections import (
    CROWD,
    CROWDED_SECONDS,
    HELLO_SECONDS,
    PendingConnections,
)
from manyhands_broker.ports.zeromq import bind
from manyhands_broker.ports.zmq_disconnects import Connections

Connect = Callable[..., tuple[socket.socket, int]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections from a loopback address; the far socket, and the descriptor here."""
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("", 0)))

        def make(host: str = "127.0.0.1") -> tuple[socket.socket, int]:
            far = stack.enter_context(
                socket.create_connection(
                    ("127.0.0.1", door.getsockname()[1]), 100, source_address=(host, 0)
                )
            )
            near = stack.enter_context(door.accept()[0])
            return far, near.fileno()

        yield make


def is_shut(far: socket.socket) -> bool:
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_connection_that_says_nothing_is_shut_in_time(connect: Connect) -> None:
    connections = PendingConnections(1_000)
    (silent, one), (known, two), (gone, three) = connect(), connect(), connect()
    for descriptor in (one, two, three):
        connections.came(descriptor, 5.0)
    connections.forget(two)
    connections.forget(three)
    assert connections.turn(5.0 + HELLO_SECONDS - 0.1) == 0
    assert not is_shut(silent)
    assert connections.turn(5.0 + HELLO_SECONDS) == 1
    eventually(lambda: is_shut(silent))
    assert not is_shut(known)
    assert not is_shut(gone)
    assert len(connections) == 0


def test_a_crowd_has_less_time(connect: Connect) -> None:
    connections = PendingConnections(1_000)
    crowd = [connect() for _ in range(CROWD + 3)]
    for at, (_, descriptor) in enumerate(crowd):
        connections.came(descriptor, at * 0.001)
    assert connections.turn(CROWDED_SECONDS - 0.1) == 0
    assert connections.turn(CROWDED_SECONDS + 1.0) == 3, "of those that are left, none is crowded"
    eventually(lambda: all(is_shut(far) for far, _ in crowd[:3]))
    assert not is_shut(crowd[3][0])


def test_too_many_are_shut_at_once_the_oldest_of_the_busiest_host(connect: Connect) -> None:
    connections = PendingConnections(20)
    other, descriptor = connect("127.0.0.2")
    connections.came(descriptor, 0.0)
    crowd = [connect() for _ in range(12)]
    for _, descriptor in crowd:
        connections.came(descriptor, 0.0)
    assert len(connections) == 10
    eventually(lambda: all(is_shut(far) for far, _ in crowd[:3]))
    assert not any(is_shut(far) for far, _ in crowd[3:])
    assert not is_shut(other)
    assert connections.turn(0.0) == 3


def test_another_connection_under_the_same_descriptor_is_let_be(connect: Connect) -> None:
    connections = PendingConnections(1_000)
    (_, descriptor), (far, other) = connect(), connect()
    connections.came(descriptor, 0.0)
    os.dup2(other, descriptor)  # as it may happen when ZeroMQ has closed the first
    connections.turn(HELLO_SECONDS)
    assert not is_shut(far)


def test_who_was_not_asked_for_a_while_gets_another_moment(connect: Connect) -> None:
    connections = PendingConnections(1_000)
    far, descriptor = connect()
    connections.came(descriptor, 0.0)
    connections.stalled(100.0)
    assert connections.turn(100.0) == 0
    assert connections.turn(100.0 + CROWDED_SECONDS) == 1
    eventually(lambda: is_shut(far))


def test_a_hello_that_is_read_before_the_news_of_its_connection_counts() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        address = bind(router, "tcp://127.0.0.1:0")
        connections = Connections(router, 1_000, 1 << 20)
        with context.socket(zmq.DEALER) as peer:
            peer.linger = 0
            peer.connect(address)
            peer.send(b"hello")
            assert router.poll(100_000)
            frame = router.recv(copy=False)
            connections.met(frame.bytes, frame, ANYBODY, 0.0, node=False)
            connections.look(0.0)
            assert len(connections.pending) == 0
            connections.forget(frame.bytes, 1.0)
            assert len(connections.pending) == 1, "and is to be said anew"
            connections.met(frame.bytes, frame, ANYBODY, 2.0, node=False)
            assert len(connections.pending) == 0
        connections.close()


def test_a_connection_that_takes_of_the_reserve_is_shut_at_once() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = int(bind(router, "tcp://127.0.0.1:0").rpartition(":")[2])
        with contextlib.closing(Connections(router, 3, 1 << 20)) as connections:
            with socket.create_connection(("127.0.0.1", port)) as far:

                def ended() -> bool:
                    connections.look(0.0)
                    far.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        return far.recv(1_024) == b""
                    return False

                eventually(ended)
            assert connections.pending.turn(0.0) == 1


def test_an_opening_is_tried_again_once_connections_were_looked_at() -> None:
    looks: list[int] = []

    def make() -> int:
        if len(looks) < 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return 7

    with pytest.raises(OSError, match="Too many open files"):
        opened(make)
    watched_by(lambda: looks.append(1))
    try:
        assert opened(make) == 7
        with pytest.raises(FileNotFoundError):
            opened(lambda: os.open("/nowhere/at/all", os.O_RDONLY))
    finally:
        watched_by(None)
    assert len(looks) == 2


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_some_descriptors_are_kept_in_reserve(limits: tuple[int, int]) -> None:
    limit = set_aside()
    assert limit > RESERVE
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    with pytest.raises(OSError, match="Too many open files"):
        socket.socket()
    with reserve(), reserve(), socket.socket():
        pass
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 3
