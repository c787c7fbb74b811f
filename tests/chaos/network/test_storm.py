"""Rows 45 and 46: odd messages from peers with valid keys. Honest work goes on; restarts too."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.storm import Storm
from harness.cluster.peers import Peer
from harness.hostile import encoded
from manyhands_shared.protocol import heartbeat
from manyhands_shared.protocol import messages as m
from manyhands_shared.transport import zmq_pieces

FUNCTION = bytes(16)
SEED = int(os.environ.get("MANYHANDS_TEST_SEED") or random.randrange(1 << 30))


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    print(f"seed {SEED}")
    with Storm(tmp_path, SEED) as made:
        yield made


def peer(storm: Storm, role: str, name: str = "mallory") -> Peer:
    return storm.keyed.peer(storm.keyed.pair(f"{name}-{role}", role))


def say(speaker: Peer, *said: Any) -> None:
    """Send whatever can be put into bytes."""
    for message in said:
        frames = encoded(message)
        assert frames is not None
        speaker.socket.send_multipart(zmq_pieces.cut(frames))


def test_a_storm_of_odd_messages_ends_nobodys_work(storm: Storm) -> None:
    storm.rage(3_000)
    storm.restart()
    storm.rage(2_000)
    assert not storm.broken, storm.broker.log
    assert "Traceback" not in storm.broker.log


def submit(first: int = 0, **options: Any) -> list[Any]:
    group = m.SubmitGroup("bad", FUNCTION, options, first, True, [b"x", b"y"])
    return [m.Submit([group])]


def chain(length: int, **first: Any) -> list[Any]:
    names = [f"c{number}" for number in range(length)]
    options = [{"durable": True, **first}]
    options += [{"durable": True, "after": [name]} for name in names[:-1]]
    return [
        m.Submit([m.SubmitGroup(name, FUNCTION, given, 0, True, [b"x"])])
        for name, given in zip(names, options, strict=True)
    ]


#: What a client with an ordinary key says.
BY_CLIENTS: dict[str, Callable[[], list[Any]]] = {
    "the last index": lambda: submit((1 << 64) - 1),
    "the last index there is": lambda: submit((1 << 48) - 2, durable=True),
    "hardly any cores": lambda: submit(resources={"cpus": 5e-324}),
    "hardly any of a label, durable": lambda: submit(durable=True, resources={"x": 1e-6}),
    "more than all cores": lambda: submit(resources={"cpus": 1e18}),
    "no number": lambda: submit(timeout=float("nan"), deadline=float("inf")),
    "a chain with a deadline": lambda: chain(600, deadline=0.5),
    "a chain that is cancelled": lambda: [*chain(600), m.Cancel([m.Span("c0", 0, [])])],
    "questions that make no sense": lambda: [
        m.Query(1, what, {"id": [], "first": "x", "limit": -1, "skip": 1 << 62})
        for what in ("jobs", "failed", "output", "why", "forget", "drain")
    ],
}


@pytest.mark.parametrize("attack", BY_CLIENTS)
def test_what_a_client_says_stops_nobody(storm: Storm, attack: str) -> None:
    client = peer(storm, "client")
    client.hello()
    client.send(m.Function(FUNCTION, "f", [b"code"]))
    say(client, *BY_CLIENTS[attack]())
    storm.look()
    storm.restart()
    assert not storm.broken, storm.broker.log


def hello(name: str, boot: bytes, *holding: m.Span, **info: Any) -> m.WorkerHello:
    return m.WorkerHello(m.PROTOCOL_VERSION, name, boot, 1, 0, list(holding), info)


#: What a node with a worker's key says; its first hello comes before.
BY_NODES: dict[str, Callable[[], list[Any]]] = {
    "many hellos over one link": lambda: [
        hello(f"n{number}", number.to_bytes(16, "big")) for number in range(9_000)
    ],
    "output of the last task": lambda: [m.Output("kept", 1, (1 << 64) - 1, "text")],
    "output of the last task there is": lambda: [m.Output("kept", 1, (1 << 48) - 1, "text")],
    "attempts that there are not": lambda: [
        hello("bad", b"b" * 16, m.Span("kept", attempt, [0, 1]))
        for attempt in ((1 << 32) - 1, (1 << 31) - 1)
    ],
    "endless resources": lambda: [hello("bad", b"b" * 16, resources={"cpus": float("inf")})],
    "the longest time": lambda: [
        m.Results(1, [m.ResultGroup("kept", 1, [0], b"\0", [b"r"], 1e10)])
    ],
}


@pytest.mark.parametrize("attack", BY_NODES)
def test_what_a_node_says_stops_nobody(storm: Storm, attack: str) -> None:
    owner = peer(storm, "client", "owner")
    owner.hello()
    owner.submit("kept", [b"x", b"y"], durable=True, needs=["nowhere"])
    node = peer(storm, "worker")
    node.send(hello("bad", b"b" * 16))
    node.until(m.WorkerWelcome)
    say(node, *BY_NODES[attack]())
    storm.look()
    storm.restart()
    # The claim is made again to the new broker, which does not know yet what it has given out.
    node = peer(storm, "worker", "again")
    say(node, *BY_NODES[attack]()[:50])
    storm.look()
    storm.restart()
    assert not storm.broken, storm.broker.log


def test_heartbeats_of_any_size_stop_nobody(storm: Storm) -> None:
    node = peer(storm, "worker")
    node.send(hello("worker1-0", b"worker1-0".ljust(16, b"_")))
    welcome = node.until(m.WorkerWelcome)
    largest, boot = (1 << 64) - 1, b"worker1-0".ljust(16, b"_")
    for cpu in (math.nan, math.inf, 1e308, 1.0):
        told = heartbeat.Beat(
            welcome.beat_row, boot, 1, largest, largest, cpu, largest, largest, cpu
        )
        storm.tell(heartbeat.encode(told, welcome.beat_key))
    storm.look()
    for _ in range(500):
        storm.beat(welcome)
    storm.look()
    assert not storm.broken, storm.broker.log
