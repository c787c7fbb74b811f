"""Messages that begin and do not end: what has come of them is bounded, at the broker and at nodes."""

from __future__ import annotations

import secrets
import select
import socket

import pytest

from harness.cluster.bench import Bench
from harness.cluster.peers import Peers, client_hello
from harness.processes import eventually
from manyhands_shared.protocol import wire

MIB = 1 << 20
MOST = 1_500 * MIB
SECONDS = 100.0


class Raw:
    """A DEALER of ZMTP 3 without encryption that can send a message in part."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self._sock = socket.create_connection((host, int(port)), timeout=SECONDS)
        self._sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL" + bytes(48))
        ready = b"\x05READY" + _property(b"Socket-Type", b"DEALER")
        ready += _property(b"Identity", secrets.token_bytes(16))
        self._sock.sendall(bytes([4, len(ready)]) + ready)
        said = b""
        while b"READY" not in said:
            part = self._sock.recv(4096)
            assert part, "it does not hang up"
            said += part

    def send(self, frame: bytes, *, more: bool) -> None:
        self._sock.sendall(bytes([2 | more]) + len(frame).to_bytes(8, "big") + frame)

    def flood(self) -> int:
        """Send frames and never the last, until the broker hangs up; returns how much left.

        It may hang up with its window shut. Then nothing can be sent, and no error comes for a minute.
        """
        size = 200 << 10
        frame = memoryview(bytes([3]) + size.to_bytes(8, "big") + bytes(size))
        self._sock.setblocking(False)
        events = select.poll()
        events.register(self._sock, select.POLLOUT | select.POLLRDHUP)
        sent = 0
        while sent < MOST:
            [(_, found)] = events.poll(SECONDS * 1000)
            if found != select.POLLOUT:
                return sent
            try:
                sent += self._sock.send(frame[sent % len(frame) :])
            except ConnectionError:
                return sent
        return sent

    def close(self) -> None:
        self._sock.close()


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


@pytest.mark.parametrize("greeted", [True, False])
def test_a_message_that_does_not_end_fills_no_memory(bench: Bench, greeted: bool) -> None:
    broker = bench.broker(window_bytes=MIB)
    with Peers() as connect:
        honest = connect(broker.address)
        honest.hello()
        before = broker.rss
        rude = Raw(broker.address)
        try:
            if greeted:
                rude.send(bytes(wire.encode(client_hello())[0]), more=False)
            assert rude.flood() < MOST, "it is cut off"
        finally:
            rude.close()
        eventually(lambda: honest.ask("stats")["counters"].get("refused_arriving"))
        assert honest.ask("stats")["counters"]["refused_arriving"] == 1
        assert broker.rss - before < 600 * MIB


def test_a_large_message_that_ends_is_let_through(bench: Bench) -> None:
    broker = bench.broker(window_bytes=64 * MIB)
    with Peers() as connect:
        honest = connect(broker.address)
        honest.hello()
        honest.submit("large", [(bytes(60 * MIB),)])
        stats = honest.ask("stats")
        assert stats["queued"] == 1
        assert not stats["counters"].get("refused_arriving")
