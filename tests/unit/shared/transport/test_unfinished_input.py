"""What has come over a connection since its last whole message."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from harness.processes import eventually
from manyhands_shared.transport.unfinished_input import UnfinishedInput

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts bytes")
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        yield near, far


def test_bytes_count_from_the_last_whole_message_on(pair: Pair) -> None:
    near, far = pair
    unfinished = UnfinishedInput()
    unfinished.came(far.fileno(), 0.0)
    near.sendall(bytes(10_000))
    assert eventually(lambda: unfinished.measure(0.0), what="it came") == {far.fileno(): 10_000}
    near.sendall(bytes(5_000))
    eventually(lambda: unfinished.measure(0.0) == {far.fileno(): 15_000}, what="more came")
    unfinished.heard(far.fileno())
    assert unfinished.measure(0.0) == {}
    near.sendall(bytes(3_000))
    eventually(lambda: unfinished.measure(0.0) == {far.fileno(): 3_000}, what="the next")


def test_heartbeats_do_not_add_up(pair: Pair) -> None:
    near, far = pair
    unfinished = UnfinishedInput()
    unfinished.came(far.fileno(), 0.0)
    for second in range(1, 200):
        near.sendall(bytes(50))
        assert sum(unfinished.measure(float(second)).values()) < 200


def test_one_that_is_shut_ends_and_its_descriptor_stays_whose_it_is(pair: Pair) -> None:
    near, far = pair
    unfinished = UnfinishedInput()
    unfinished.came(far.fileno(), 0.0)
    unfinished.shut(far.fileno())
    assert near.recv(1) == b""
    assert far.fileno() >= 0
    assert len(unfinished) == 0


def test_a_descriptor_that_is_another_connections_by_now_is_left_alone(pair: Pair) -> None:
    near, far = pair
    unfinished = UnfinishedInput()
    unfinished.came(far.fileno(), 0.0)
    unfinished._known[far.fileno()].far_end = ("127.0.0.1", 1)
    unfinished.shut(far.fileno())
    far.sendall(b"x")
    assert near.recv(1) == b"x"
    unfinished.came(10_000, 0.0)
    assert len(unfinished) == 0
