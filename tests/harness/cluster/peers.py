"""Light peers that speak the protocol by hand: many nodes in one process, clients with bad manners."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Self, TypeVar

import zmq

from harness.processes import eventually
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.transport import zmq_pieces

T = TypeVar("T")

FUNCTION = bytes(16)
CODE = b"code"


class Peer:
    """A DEALER that sends and receives whole messages."""

    def __init__(self, context: zmq.Context[Any], address: str, **options: int) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.identity = secrets.token_bytes(16)
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.connect(address)

    def send(self, message: m.Message) -> None:
        """Send, and do not wait."""
        self.socket.send_multipart(zmq_pieces.cut(wire.encode(message)), zmq.NOBLOCK)

    def receive(self, timeout: float = 0.0) -> m.Message | None:
        """The next message, if one comes within `timeout` seconds."""
        if not self.socket.poll(timeout * 1000):
            return None
        return wire.decode(zmq_pieces.join(self.socket.recv_multipart()))

    def until(self, kind: type[T], timeout: float = 100.0) -> T:
        """The next message of this kind; others are dropped, pings answered."""

        def found() -> T | None:
            message = self.receive(0.1)
            if isinstance(message, m.Ping):
                self.send(m.Pong(message.counter))
            return message if isinstance(message, kind) else None

        found_one = eventually(found, timeout, what=kind.__name__)
        assert found_one is not None
        return found_one

    def hello(self, token: bytes = b"", last_seq: int = 0) -> m.ClientWelcome:
        """Open a session."""
        self.send(client_hello(token, last_seq))
        return self.until(m.ClientWelcome)

    def submit(self, job: str, bodies: list[Payload], **options: Any) -> None:
        """A whole job at once, function and all."""
        self.send(m.Function(FUNCTION, "f", [CODE]))
        self.send(m.Submit([m.SubmitGroup(job, FUNCTION, options, 0, True, bodies)]))

    def ask(self, what: str, **arguments: Any) -> Any:
        """The answer to a query."""
        self.send(m.Query(1, what, arguments))
        reply = self.until(m.Reply)
        assert not reply.error, reply.error
        return reply.data

    def close(self) -> None:
        """Gone without a word."""
        self.socket.close()


class Peers:
    """Makes peers, and closes them all."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def __call__(self, address: str, **options: Any) -> Peer:
        return Peer(self.context, address, **options)


def client_hello(token: bytes = b"", last_seq: int = 0) -> m.ClientHello:
    """The hello of a client."""
    session = token or secrets.token_bytes(16)
    return m.ClientHello(m.PROTOCOL_VERSION, session, "peer", last_seq, 0, {})


def node_hello(
    name: str, boot: bytes, holding: Iterable[m.Span] = (), window: int = 10
) -> m.WorkerHello:
    """The hello of a node with one slot."""
    return m.WorkerHello(m.PROTOCOL_VERSION, name, boot, 1, window, list(holding), {})


def results_of(group: m.AssignGroup, seq: int, body: Payload = b"r") -> m.Results:
    """All of an assignment is done."""
    count = len(group.indices)
    return m.Results(
        seq,
        [
            m.ResultGroup(
                group.job, group.attempt, group.indices, bytes(count), [body] * count, 0.01
            )
        ],
    )
