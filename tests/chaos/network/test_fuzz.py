"""Row 44: garbage on every socket. What is damaged is dropped and counted, and work goes on."""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import zmq

from harness.cluster.bench import Bench, counters, joined
from harness.cluster.ledger import Ledger, run
from harness.cluster.peers import Peer, Peers, client_hello, node_hello
from harness.processes import eventually
from manyhands_shared.protocol import heartbeat, wire
from manyhands_shared.protocol import messages as m

ROUNDS = 300
ID = bytes(16)
GROUP = m.ResultGroup("job", 1, [0, 1], b"\0\0", [b"r", b"r"], 0.1)
#: One of each message that the broker may get, to be damaged.
SAMPLES: list[m.Message] = [
    client_hello(),
    node_hello("fuzz", b"f" * 16),
    m.Function(ID, "f", [b"code"]),
    m.Submit([m.SubmitGroup("job", ID, {"priority": 1}, 0, True, [b"a", (b"a", b"b")])]),
    m.Submit([m.SubmitGroup("kept", ID, {"durable": True, "retries": 3}, 0, False, [b"a"])]),
    m.Results(1, [GROUP]),
    m.Ack(7),
    m.Cancel([m.Span("job", 0, [0])]),
    m.Returned([m.Span("job", 1, [0, 1])]),
    m.Attach("kept"),
    m.Detach("kept"),
    m.Renew(3, 2, 10, []),
    m.Event("kind", "text", {"a": 1}),
    m.Output("kept", 1, 0, "text"),
    m.Need(ID),
    m.Query(1, "why", {"id": "job"}),
    m.Query(2, "failed", {"id": "kept", "first": 0}),
    m.Ping(1),
    m.Pong(1),
    m.Lease(1),
    m.Who(ID),
]


def damaged(rng: random.Random) -> list[bytes]:
    """A message with a few bits, bytes or frames changed, or a valid one out of place."""
    frames = [bytes(frame) for frame in wire.encode(rng.choice(SAMPLES))]
    for _ in range(rng.randrange(4)):
        number = rng.randrange(len(frames))
        frame = bytearray(frames[number])
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(6):
            case 0 if frame:
                frame[at - 1] ^= 1 << rng.randrange(8)
            case 1:
                frame[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del frame[at:]
            case 3:
                frames.insert(number, rng.randbytes(rng.randrange(20)))
            case 4 if len(frames) > 1:
                del frames[number]
                continue
            case _:
                # Lengths that promise far more than there is.
                frame[at:at] = rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb"]) + b"\xff" * 4
        frames[min(number, len(frames) - 1)] = bytes(frame)
    return frames


def stream(rng: random.Random) -> bytes:
    """What a stranger may write to a TCP port: noise, HTTP, or a ZeroMQ greeting gone wrong."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    return rng.choice(
        [
            rng.randbytes(rng.randrange(200)),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            greeting[: rng.randrange(len(greeting))] + rng.randbytes(20),
            greeting + rng.randbytes(60),
            greeting + ready + b"\x02" + b"\xff" * 8 + rng.randbytes(30),
            greeting + ready + rng.randbytes(50),
        ]
    )


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "journal"])
def test_the_broker_outlives_garbage_on_every_socket(bench: Bench, durable: bool) -> None:
    ledger = Ledger(bench.folder)
    rng = ledger.random
    options = {"journal": str(bench.folder / "journal")} if durable else {}
    # A short lease, for some of what is thrown makes a node that takes work and never does it.
    # Such nodes may take one task many times, and each time its lease runs out: the task is not given
    # up for that.
    broker = bench.broker(lease=2.0, crash_limit=1_000, **options)
    client = bench.client(broker.address)
    bench.node(broker.address)
    joined(client, 1)
    before = broker.rss
    executor = bench.executor(broker.address)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    with Peers() as connect, udp:
        vandals = [connect(broker.address) for _ in range(4)]
        known_node = connect(broker.address)
        known_node.send(node_hello("vandal", b"v" * 16, window=0))
        row = known_node.until(m.WorkerWelcome)
        known_client = connect(broker.address)
        known_client.hello()
        for task in range(ROUNDS):
            ledger.hand_in(executor, run, task)
            for peer in (known_client, known_node, rng.choice(vandals)):
                throw(peer, damaged(rng))
            for datagram in datagrams(rng, row):
                udp.sendto(datagram, ("127.0.0.1", broker.port))
            if task % 10 == 0:
                with socket.create_connection(("127.0.0.1", broker.port)) as tcp, suppress(OSError):
                    tcp.sendall(stream(rng))
        eventually(lambda: len(ledger.delivered) == ROUNDS, 120, what="work went on")
        known_client.send(m.Bye("done"))
    print(ledger.judge())
    assert counters(client)["invalid_messages"] > ROUNDS / 4
    assert broker.rss - before < 100 << 20
    assert "Traceback" not in broker.log


def throw(peer: Peer, frames: list[bytes]) -> None:
    """Send, as far as it goes."""
    with suppress(zmq.Again):
        peer.socket.send_multipart(frames, zmq.NOBLOCK)
    while peer.socket.poll(0):
        peer.socket.recv_multipart()


def datagrams(rng: random.Random, welcome: m.WorkerWelcome) -> Iterator[bytes]:
    """Noise, and heartbeats that are almost right."""
    yield rng.randbytes(rng.choice([0, 1, heartbeat.DATAGRAM_BYTES, rng.randrange(1500)]))
    told = heartbeat.Beat(
        rng.choice([welcome.beat_row, rng.randrange(1 << 32)]),
        rng.choice([b"v" * 16, secrets.token_bytes(16)]),
        counter=rng.randrange(1 << 64),
        turns=rng.randrange(1 << 64),
        running=rng.randrange(1 << 64),
        cpu=rng.choice([0.0, float("nan"), float("inf"), -1.0]),
        rss=rng.randrange(1 << 64),
        available=rng.randrange(1 << 64),
        load=rng.choice([0.0, float("nan")]),
    )
    whole = bytearray(heartbeat.encode(told, rng.choice([welcome.beat_key, bytes(32)])))
    if rng.random() < 0.5:
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    yield bytes(whole)
