"""A link over ZeroMQ, whose descriptors tell of changes only: what asks must not swallow an answer."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
import zmq

from harness.processes import eventually, free_port
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Ping, Pong
from manyhands_shared.transport import zmq_monitor
from manyhands_shared.transport.link import Link, LinkEvent, connect, zeromq
from manyhands_shared.transport.link.zeromq import ZmqLink


@pytest.fixture
def peer() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.rcvtimeo = 10_000
        yield socket


@pytest.fixture
def link(peer: zmq.Socket[bytes]) -> Iterator[Link]:
    port = peer.bind_to_random_port("tcp://127.0.0.1")
    made = connect(f"tcp://127.0.0.1:{port}", b"L" * 16, None)

    def is_up() -> bool:
        made.woken(None)
        return made.event(0.0) is LinkEvent.UP

    eventually(is_up)
    yield made
    made.close()


def test_a_message_is_pending_until_it_is_received(peer: zmq.Socket[bytes], link: Link) -> None:
    assert link.event(0.0) is None
    assert link.receive() == []
    assert not link.pending()
    link.send(Ping(1))
    sender, *_ = peer.recv_multipart()
    peer.send_multipart([sender, *wire.encode(Pong(1))])
    select.select(link.descriptors, [], [], 100)
    assert link.pending()
    assert link.pending(), "to ask is not to take"
    assert link.receive() == [Pong(1)]
    assert not link.pending()


def test_a_new_link_is_pending_until_its_events_are_read(peer: zmq.Socket[bytes]) -> None:
    port = peer.bind_to_random_port("tcp://127.0.0.1")
    made = connect(f"tcp://127.0.0.1:{port}", b"L" * 16, None)
    try:
        assert made.pending()
        assert made.receive() == []
        assert made.pending(), "its monitor has not been looked at"
    finally:
        made.close()


def test_a_closed_link_takes_what_a_late_caller_does(peer: zmq.Socket[bytes], link: Link) -> None:
    link.close()
    link.send(Ping(1))
    assert not link.pending()
    assert not link.congested


def test_a_broker_that_is_away_is_looked_for_at_least_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zeromq, "_RECONNECT_MS", 400)
    made = ZmqLink(f"tcp://127.0.0.1:{free_port()}", b"L" * 16, None, others=True)
    pauses: list[int] = []
    try:
        while len(pauses) < 4:
            assert made._monitor.poll(100_000)
            while (found := zmq_monitor.read(made._monitor)) is not None:
                if found[0] == zmq.EVENT_CONNECT_RETRIED:
                    pauses.append(found[1])
    finally:
        made.close()
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 1_000, "in milliseconds"
