"""The loop itself, in a thread over a real socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from harness.processes import eventually
from manyhands_broker import loop as broker_loop
from manyhands_broker.core import Core, Drained, Effect, Event, Limits, Received, Send
from manyhands_broker.journal import Journal, MemoryJournal
from manyhands_broker.loop import Loop
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import DRAIN_SECONDS, Port
from manyhands_broker.ports.encoding import Codec
from manyhands_broker.ports.inprocess import InProcessPort
from manyhands_broker.ports.unix import UnixPort
from manyhands_broker.ports.zeromq import RouterPort, bind
from manyhands_shared.clock import Clock
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import (
    ClientHello,
    ClientWelcome,
    Message,
    Ping,
    Pong,
    Reply,
)
from manyhands_shared.transport import zmq_pieces
from manyhands_shared.transport.stream import Stream


def received(peer: zmq.Socket[bytes], count: int) -> list[Message]:
    """The next `count` messages."""
    messages = []
    for _ in range(count):
        assert peer.poll(100_000), "the broker says nothing"
        messages.append(wire.decode(zmq_pieces.join(peer.recv_multipart())))
    return messages


@contextlib.contextmanager
def over_tcp(
    core: Core, journal: Journal, clock: Clock = time.monotonic
) -> Iterator[tuple[Loop, zmq.Socket[bytes]]]:
    """A loop, and a peer that is connected to it."""
    poller = Poller()
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        context.socket(zmq.DEALER) as peer,
    ):
        address = bind(router, "tcp://127.0.0.1:0")
        codec = Codec(core.breakdowns, core.counters)
        port = RouterPort(router, poller, codec, clock, None, 1_000, 1 << 20)
        peer.linger = 0
        peer.connect(address)
        try:
            yield Loop(core, journal, clock, poller, [port], heartbeats=lambda _: None), peer
        finally:
            port.close()


class Faulty(Core):
    """A scheduler with a bug in how it handles one message, the drain after another, one answer."""

    breaks = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Received) and event.message == Ping(666):
            raise ZeroDivisionError("a bug")
        if isinstance(event, Received) and event.message == Ping(667):
            return [Send(event.peer, Reply(1, "", [1 << 70]))]
        if self.breaks and isinstance(event, Drained):
            self.breaks = False
            raise ValueError("another bug")
        self.breaks = self.breaks or (isinstance(event, Received) and event.message == Ping(668))
        return super().handle(event, now)


#: What `Faulty` stumbles over.
ODD = (666, 667, 668)


def test_a_bug_in_handling_one_message_ends_nobodys_work(caplog: pytest.LogCaptureFixture) -> None:
    journal = MemoryJournal()
    core = Faulty(Limits(), bytes(16), journal, time.monotonic())
    with over_tcp(core, journal) as (loop, peer), caplog.at_level(logging.ERROR):
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            hello: Message = ClientHello(1, bytes(16), "", 0, 0, {})
            for message in (hello, *map(Ping, ODD), Ping(7)):
                peer.send_multipart(wire.encode(message))
            answers = received(peer, 4)
        finally:
            loop.stop()
            thread.join(100)
    assert isinstance(answers[0], ClientWelcome)
    assert isinstance(answers[1], Reply)
    assert "the answer cannot be sent" in answers[1].error
    assert answers[2:] == [Pong(668), Pong(7)]
    assert core.counters["internal_errors"] == 3
    for text in ("Ping could not be handled", "Drained could not be", "Reply cannot be sent"):
        assert caplog.text.count(text) == 1
    assert "Traceback" not in caplog.text


class Last(Core):
    """A scheduler that ends the loop with an answer that cannot be sent."""

    stop: Callable[[], None]

    def handle(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Received) and event.message == Ping(667):
            self.stop()
            return [Send(event.peer, Reply(1, "", [1 << 70]))]
        return super().handle(event, now)


def test_a_bug_in_the_last_turn_is_told(caplog: pytest.LogCaptureFixture) -> None:
    journal = MemoryJournal()
    core = Last(Limits(), bytes(16), journal, time.monotonic())
    with over_tcp(core, journal) as (loop, peer):
        core.stop = loop.stop
        peer.send_multipart(wire.encode(Ping(667)))
        loop.run()
    assert caplog.text.count("Reply cannot be sent") == 1


class Slow(Core):
    """A scheduler that takes half the time of a drain for each message, on a clock of its own."""

    time = 100.0
    taken = 0
    longest = 0

    def clock(self) -> float:
        return self.time

    def handle(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Received):
            self.time += DRAIN_SECONDS * 0.6
            self.taken += 1
        elif isinstance(event, Drained):
            self.longest, self.taken = max(self.longest, self.taken), 0
        return super().handle(event, now)


def test_a_drain_ends_in_time_however_much_there_is_to_read() -> None:
    """Else the peer that spoke first would wait for the last of hundreds of large messages."""
    journal = MemoryJournal()
    core = Slow(Limits(), bytes(16), journal, 100.0)
    with over_tcp(core, journal, core.clock) as (loop, peer):
        peer.send_multipart(wire.encode(ClientHello(1, bytes(16), "", 0, 0, {})))
        for number in range(50):
            peer.send_multipart(wire.encode(Ping(number)))
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            answers = received(peer, 51)
        finally:
            loop.stop()
            thread.join(100)
    assert answers[1:] == [Pong(number) for number in range(50)]
    assert core.longest == 2


needs_two_processors = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="waiting without sleep takes a second processor",
)


@needs_two_processors
def test_with_a_node_inside_it_stays_awake_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = threading.Event()

    def give_way() -> None:
        looks.set()

    monkeypatch.setattr(broker_loop, "SPIN_SECONDS", 20.0)
    monkeypatch.setattr(os, "sched_yield", give_way)
    monkeypatch.setattr(broker_loop, "MAX_WAIT", 30.0)
    with embedding(tmp_path, Core) as (sock, end):
        assert looks.wait(100), "it went to sleep"
        assert isinstance(welcomed(Stream(sock)), ClientWelcome)
        end()


class Occupied(Core):
    """One whose tasks keep every processor busy."""

    def occupies(self, processors: int) -> bool:
        assert processors == len(os.sched_getaffinity(0))
        return True


@needs_two_processors
def test_with_a_node_inside_it_sleeps_while_tasks_keep_all_processors_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(broker_loop, "SPIN_SECONDS", 1.0)
    monkeypatch.setattr(broker_loop, "MAX_WAIT", 30.0)
    monkeypatch.setattr(os, "sched_yield", lambda: looks.append(None))
    with embedding(tmp_path, Occupied) as (sock, end):
        assert isinstance(welcomed(Stream(sock)), ClientWelcome)
        end()
    assert not looks


@contextlib.contextmanager
def embedding(folder: Path, kind: type[Core]) -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """A connection to a loop with a node inside, and what has the loop end when it wakes next."""
    journal = MemoryJournal()
    core = kind(Limits(), bytes(16), journal, time.monotonic())
    poller = Poller()
    unix = UnixPort([f"unix://{folder / 'broker'}"], poller, Codec(core.breakdowns, core.counters))
    ports: list[Port] = [InProcessPort(poller, time.monotonic), unix]
    loop = Loop(
        core, journal, time.monotonic, poller, ports, heartbeats=lambda _: None, embedded=True
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(folder / "broker"))
            yield sock, loop.stop
    finally:
        loop.stop()
        thread.join(100)
        unix.close()
    assert not thread.is_alive(), "the end of a connection is seen while it looks"


def welcomed(peer: Stream) -> Message:
    """Say hello; what is answered."""
    peer.send(wire.encode(ClientHello(1, bytes(16), "", 0, 0, {})))
    messages: list[list[Buffer]] = []

    def answered() -> bool:
        messages.extend(peer.receive())
        return bool(messages)

    eventually(answered, what="it answers while it looks")
    return wire.decode(messages[0])
