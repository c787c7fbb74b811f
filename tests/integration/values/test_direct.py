"""The two ends of the way from node to client, without a cluster: what is served, and to whom."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from harness.cluster.peers import Peer, Peers
from harness.processes import calls_of, eventually
from harness.threads import no_thread_left
from manyhands._session.effects import Fetch
from manyhands._values import fetch_connection, remote_fetch
from manyhands._values.remote_fetch import RemoteFetcher
from manyhands_shared import shm
from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.held_result import Server, Ticket
from manyhands_shared.protocol.messages import Part, Ping, Pull
from manyhands_shared.protocol.parts import PART_BYTES, WINDOW
from manyhands_shared.security.role_key import to_hex, to_z85
from manyhands_worker.values.result_server import ResultServer

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")

#: Seconds in which there would have been an answer many times over.
SILENCE = 0.3


class Node:
    """A server with what it has to give."""

    def __init__(self) -> None:
        self.server = ResultServer("127.0.0.1", 0)
        self.server.start("127.0.0.1")
        self.freed: list[bytes] = []
        self.place: Server = eventually(lambda: self.server.place, what="it serves")

    def offer(self, guest: str, data: bytes) -> Ticket:
        """A result of one buffer for the client with this public key."""
        size = shm.span([len(data)])
        fd = shm.new_segment(size)
        os.pwrite(fd, data, 0)
        key = secrets.token_bytes(16)

        def done() -> None:
            os.close(fd)
            self.freed.append(key)

        self.server.offer(key, fd, size, guest, done)
        return Ticket("elsewhere", "", key, [len(data)], self.place)


def test_a_node_without_a_thread_for_the_authenticator_says_that_it_serves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ResultServer("127.0.0.1", 0)
    with no_thread_left():
        server._run("127.0.0.1")
    assert server.place is None
    [line] = caplog.messages
    assert "through the broker: cannot serve them here: [Errno 11]" in line
    server.close()


class Taker:
    """A client's side, and what it got."""

    def __init__(self) -> None:
        self.got: dict[bytes, Payload | None] = {}
        #: Whether more is fetched once something has come.
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.direct = RemoteFetcher(self._over)

    def _over(self, wanted: Fetch, payload: Payload | None) -> None:
        self.got[bytes(wanted.ticket)] = payload
        self.goes_on.wait(100)

    def fetch(self, ticket: Ticket) -> None:
        assert ticket.server is not None
        self.direct.fetch(Fetch("job", 1, 0, ticket.key), ticket, ticket.server)

    def result(self, ticket: Ticket, timeout: float = 100.0) -> Any:
        """What came of a fetch: the one buffer, or None."""
        eventually(lambda: ticket.key in self.got, timeout, what="the fetch is over")
        payload = self.got[ticket.key]
        return payload if payload is None else payload[0]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a node is waited for."""
    monkeypatch.setattr(fetch_connection, "CONNECT_SECONDS", 100.0)


Pair = tuple[bytes, bytes]
Connect = Callable[..., Peer]


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.server.close()


@pytest.fixture
def taker() -> Iterator[Taker]:
    made = Taker()
    yield made
    made.direct.close()


@pytest.fixture
def connect(node: Node) -> Iterator[Connect]:
    """Peers that speak by hand to the server, with a key pair or none."""
    with Peers() as peers:
        place = node.place
        where = f"tcp://{place.address}:{place.port}"
        made: list[Peer] = []

        def make(pair: Pair | None = None, **options: Any) -> Peer:
            if pair is not None:
                options["curve_publickey"], options["curve_secretkey"] = pair
                options["curve_serverkey"] = to_z85(place.key.hex())
            # Held, so that it is closed with its context and not by the garbage collector.
            made.append(peers(where, **options))
            return made[-1]

        yield make


def pull(key: bytes, start: int = 0, size: int = 64) -> Pull:
    return Pull(key, start, size)


def ask(peer: Peer, asked: Pull, timeout: float = 100.0) -> Part | None:
    """The answer to a request, if there is one."""
    peer.send(asked)
    answer = peer.receive(timeout)
    assert answer is None or isinstance(answer, Part)
    return answer


def parts_of(body: Payload) -> Sequence[Buffer]:
    """A payload in frames."""
    return [body] if isinstance(body, bytes) else body


def brings(answer: Part | None) -> bytes | None:
    """What is in a part; None if it says that there is nothing."""
    assert answer is not None
    return b"".join(map(bytes, parts_of(answer.bodies[0]))) if answer.bodies else None


@pytest.mark.parametrize("size", [1, 300_000, PART_BYTES, 3 * PART_BYTES + 5, 40 * PART_BYTES])
def test_results_of_every_size_come_whole(node: Node, taker: Taker, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    ticket = node.offer(taker.direct.public, data)
    taker.fetch(ticket)
    result = taker.result(ticket)
    assert bytes(result) == data
    assert not result.readonly
    assert not node.freed
    node.server.withdraw(ticket.key)
    eventually(lambda: node.freed == [ticket.key], what="no process looks at it")


def test_many_come_over_one_connection(
    node: Node, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = calls_of(monkeypatch, remote_fetch, "FetchConnection")
    alone = [node.offer(taker.direct.public, bytes(400_000)) for _ in range(3)]
    for ticket in alone:  # one after the other
        taker.fetch(ticket)
        assert taker.result(ticket) is not None
    # And all at once.
    tickets = [node.offer(taker.direct.public, bytes([n]) * 2_000_000) for n in range(40)]
    for ticket in tickets:
        taker.fetch(ticket)
    for n, ticket in enumerate(tickets):
        assert bytes(taker.result(ticket)) == bytes([n]) * 2_000_000
    assert len(made) == 1


def test_what_is_not_there_any_more_is_not_to_be_had(node: Node, taker: Taker) -> None:
    stays = node.offer(taker.direct.public, b"a" * 400_000)
    goes = node.offer(taker.direct.public, b"b" * 400_000)
    node.server.withdraw(goes.key)
    assert node.freed == [goes.key]
    taker.fetch(goes)
    taker.fetch(stays)
    assert taker.result(goes) is None
    assert taker.result(stays) == b"a" * 400_000


def test_memory_is_not_given_back_while_parts_of_it_are_on_their_way(
    node: Node, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a slow client would get what the next result has written there."""
    pair, other_pair = zmq.curve_keypair(), zmq.curve_keypair()
    ticket = node.offer(to_hex(pair[0]), b"a" * (4 * WINDOW * PART_BYTES))
    other = node.offer(to_hex(other_pair[0]), b"b" * 64)
    answered = calls_of(monkeypatch, node.server, "_answer")
    slow = connect(pair, rcvhwm=1)
    for n in range(4 * WINDOW):
        slow.send(pull(ticket.key, n * PART_BYTES, PART_BYTES))
    # That is more than lies in the buffers of a connection.
    eventually(lambda: len(answered) == 4 * WINDOW, what="it has answered all of it")
    assert brings(ask(connect(other_pair), pull(other.key))) == b"b" * 64
    node.server.withdraw(ticket.key)
    threading.Event().wait(SILENCE)
    assert not node.freed, "parts of it wait to be sent"
    slow.close()
    eventually(lambda: node.freed == [ticket.key], what="no process looks at it")


def test_a_node_that_ends_in_the_middle(taker: Taker) -> None:
    node = Node()
    tickets = [node.offer(taker.direct.public, bytes(30_000_000)) for _ in range(10)]
    taker.goes_on.clear()
    for ticket in tickets:
        taker.fetch(ticket)
    taker.result(tickets[0])
    node.server.close()
    taker.goes_on.set()
    results = [taker.result(ticket) for ticket in tickets]
    assert results[0] is not None
    assert results[-1] is None
    again = Node()
    ticket = again.offer(taker.direct.public, b"x" * 500_000)
    taker.fetch(ticket)
    assert taker.result(ticket) == b"x" * 500_000
    again.server.close()


def test_who_cannot_be_reached_is_not_asked_again_at_once(
    taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_connection, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(remote_fetch, "FORGET_SECONDS", 600.0)
    tried = calls_of(monkeypatch, remote_fetch, "FetchConnection")
    with socket.create_server(("127.0.0.1", 0)) as door:  # which never says anything
        place = Server("127.0.0.1", door.getsockname()[1], bytes(32))
        for _ in range(2):
            ticket = Ticket("elsewhere", "", secrets.token_bytes(16), [400_000], place)
            taker.fetch(ticket)
            assert taker.result(ticket) is None
    assert len(tried) == 1
    # No node is there at all.
    ticket = Ticket(
        "elsewhere", "", secrets.token_bytes(16), [4], place._replace(address="127.0.0.2")
    )
    taker.fetch(ticket)
    assert taker.result(ticket) is None


def test_memory_that_is_not_to_be_had_is_asked_for_elsewhere(node: Node, taker: Taker) -> None:
    small = node.offer(taker.direct.public, b"a" * 400_000)
    huge = Ticket("elsewhere", "", secrets.token_bytes(16), [1 << 62, 1 << 62], node.place)
    taker.fetch(huge)
    taker.fetch(small)
    assert taker.result(huge) is None
    assert taker.result(small) == b"a" * 400_000


Lie = Callable[[Pull], list[bytes]]


def _short(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at, [(bytes(asked.size - 1),)]))


def _long(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at, [(bytes(asked.size + 1),)]))


def _inline(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at, [b"short"]))


def _elsewhere(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at + 1, [(bytes(asked.size),)]))


def _several(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at, [(bytes(asked.size), b"more")]))


def _another(_: Pull) -> list[bytes]:
    return wire.encode(Ping(1))


def _garbage(_: Pull) -> list[bytes]:
    return [b"garbage"]


def _bomb(asked: Pull) -> list[bytes]:
    return wire.encode(Part(asked.key, asked.at, [(bytes(3 * PART_BYTES),)]))


@pytest.mark.parametrize(
    "lie", [_short, _long, _inline, _elsewhere, _several, _another, _garbage, _bomb]
)
def test_a_node_that_answers_nonsense_is_believed_nothing(taker: Taker, lie: Lie) -> None:
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = public, secret
        port = router.bind_to_random_port("tcp://127.0.0.1")
        place = Server("127.0.0.1", port, bytes.fromhex(to_hex(public)))
        ticket = Ticket("elsewhere", "", secrets.token_bytes(16), [900_000], place)
        taker.fetch(ticket)
        assert router.poll(20_000)
        peer, asked = router.recv_multipart()
        request = wire.decode([asked])
        assert isinstance(request, Pull)
        router.send_multipart([peer, *lie(request)])
        assert taker.result(ticket) is None


def test_only_the_client_of_a_result_gets_it(node: Node, connect: Connect) -> None:
    mine, theirs = zmq.curve_keypair(), zmq.curve_keypair()
    ticket = node.offer(to_hex(mine[0]), b"a" * 64)
    other = node.offer(to_hex(theirs[0]), b"b" * 64)
    assert brings(ask(connect(mine), pull(ticket.key))) == b"a" * 64
    # With a key that is let in, for something of its own.
    assert brings(ask(connect(theirs), pull(ticket.key))) is None
    assert brings(ask(connect(theirs), pull(other.key))) == b"b" * 64


def test_nobody_else_is_let_in(node: Node, connect: Connect) -> None:
    mine = zmq.curve_keypair()
    ticket = node.offer(to_hex(mine[0]), b"a" * 64)
    assert ask(connect(zmq.curve_keypair()), pull(ticket.key), SILENCE) is None
    assert ask(connect(None), pull(ticket.key), SILENCE) is None
    assert brings(ask(connect(mine), pull(ticket.key))) == b"a" * 64


def test_who_has_nothing_here_any_more_is_shut_out(node: Node, connect: Connect) -> None:
    """As by the cancellation of his jobs when his key is revoked."""
    mine = zmq.curve_keypair()
    ticket = node.offer(to_hex(mine[0]), b"a" * 64)
    connected = connect(mine)
    assert brings(ask(connected, pull(ticket.key))) == b"a" * 64
    node.server.withdraw(ticket.key)
    assert brings(ask(connected, pull(ticket.key))) is None
    assert ask(connect(mine), pull(ticket.key), SILENCE) is None


def test_nonsense_is_dropped_and_told_once(
    node: Node, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    mine = zmq.curve_keypair()
    ticket = node.offer(to_hex(mine[0]), b"a" * 640)
    peer = connect(mine)
    for message in (
        Ping(1),
        Part(ticket.key, 0, []),
        pull(ticket.key, 0, 0),
        pull(ticket.key, 0, 641),
        pull(ticket.key, 1 << 63, 64),
        pull(ticket.key, 0, PART_BYTES + 1),
    ):
        peer.send(message)
    request = bytes(wire.encode(pull(ticket.key))[0])
    for frames in ((b"",), (b"garbage",), (request, b"more"), (b"", request)):
        peer.socket.send_multipart(frames)
    assert brings(ask(peer, pull(ticket.key))) == b"a" * 64
    told = [record.getMessage() for record in caplog.records if "no sense" in record.getMessage()]
    assert len(told) == 1
    # What is too large to be a request ends its connection.
    rude = connect(mine, reconnect_ivl=-1)
    rude.socket.send(bytes(5_000))
    assert ask(rude, pull(ticket.key), SILENCE) is None
    assert brings(ask(peer, pull(ticket.key))) == b"a" * 64


def test_a_request_that_does_not_end_ends_its_connection(
    node: Node, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    mine = zmq.curve_keypair()
    ticket = node.offer(to_hex(mine[0]), b"a" * 640)
    peer, rude = connect(mine), connect(mine, reconnect_ivl=-1)
    assert brings(ask(rude, pull(ticket.key))) == b"a" * 64
    for _ in range(200_000):
        rude.socket.send(bytes(800), zmq.SNDMORE)
    rude.socket.send(b"")
    eventually(lambda: "a request of more than" in caplog.text, what="it is cut off")
    with contextlib.suppress(zmq.Again):  # nothing can be sent once it knows of its end
        assert ask(rude, pull(ticket.key), SILENCE) is None
    assert brings(ask(peer, pull(ticket.key))) == b"a" * 64


def test_nothing_is_left_behind() -> None:
    def once() -> None:
        node, taker = Node(), Taker()
        ticket = node.offer(taker.direct.public, bytes(5_000_000))
        taker.fetch(ticket)
        assert taker.result(ticket) is not None
        taker.direct.close()
        node.server.close()
        assert node.freed == [ticket.key]

    def here() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    once()  # what is made once for all is made now
    before = here()
    once()
    eventually(lambda: here() <= before, what="threads and descriptors are gone")
