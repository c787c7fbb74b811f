"""What processes without a key, and programs that speak something else, can do to a broker."""

from __future__ import annotations

import base64
import contextlib
import http.server
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from harness.cluster.bench import Bench
from harness.cluster.keyed import Keyed
from harness.cluster.parts import Broker
from harness.cluster.peers import Peer, Peers, client_hello
from harness.processes import eventually
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Refused
from manyhands_shared.security import allow_list, role_key
from manyhands_shared.security.role_key import RoleKey

SECONDS = 100.0
HELLO = bytes(wire.encode(client_hello())[0])
#: The beginnings of greetings of ZMTP 3, up to the name of the mechanism.
_ZMTP3 = b"\xff" + bytes(8) + b"\x7f\x03\x01"
NULL = _ZMTP3 + b"NULL" + bytes(16) + bytes(32)
CURVE = _ZMTP3 + b"CURVE" + bytes(15) + bytes(32)


def zmtp1(*frames: bytes) -> bytes:
    """Frames of ZMTP 1, each the last of its message."""
    return b"".join(bytes([len(frame) + 1, 0]) + frame for frame in frames)


def zmtp2(*frames: bytes) -> bytes:
    return b"".join(bytes([0, len(frame)]) + frame for frame in frames)


def post() -> bytes:
    """A request that ZMTP 1 takes for an identity of 79 bytes, a frame, and a hello."""
    identity = b"POST /" + b"a" * 40 + b" HTTP/1.1\r\nHost: a.example\r\nA: "
    identity += b"b" * (81 - len(identity))
    # "X" is a length of 88, and "-" says that more frames follow: those of the body.
    rest = b"X-" + b"c" * (89 - 2 - len(b": \r\n\r\n")) + b": \r\n\r\n"
    return identity + rest + zmtp1(HELLO, HELLO)


OTHERS = {
    "http": post(),
    "http-get": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "zmtp1": zmtp1(b"", HELLO),
    "zmtp1-long": b"\xff" + (1).to_bytes(8, "big") + b"\0" + zmtp1(HELLO),
    "zmtp1-versioned": b"\xff" + bytes(7) + b"\x01\x7f\x00\x05" + zmtp1(b"", HELLO),
    "zmtp2": b"\xff" + bytes(7) + b"\x01\x7f\x01\x05" + zmtp2(b"", HELLO),
    "tls": bytes.fromhex("16030102000100 01fc0303".replace(" ", "")) + bytes(505),
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n" + bytes(200),
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "nothing": b"",
}


def say(port: int, data: bytes) -> bytes:
    """Say this to a port, and nothing more; what is answered until the other end hangs up."""
    answer = b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock,
    ):
        sock.sendall(data)
        with contextlib.suppress(OSError):  # it has hung up
            sock.shutdown(socket.SHUT_WR)
        while part := sock.recv(4096):
            answer += part
    return answer


def nothing_is_heard(broker: Broker, honest: Peer) -> None:
    honest.hello()
    for name, data in OTHERS.items():
        answer = say(broker.port, data)
        assert not answer or answer.startswith(b"\xff"), name
        stats = honest.ask("stats")
        assert stats["sessions"] == 1, name
        assert "invalid_messages" not in stats["counters"], name
    assert broker.alive
    assert "dropped what peer" not in broker.log


def test_what_speaks_another_protocol_is_not_heard(bench: Bench) -> None:
    broker = bench.broker()
    with Peers() as connect:
        honest = connect(broker.address)
        nothing_is_heard(broker, honest)


def test_nor_is_it_by_a_broker_with_a_key(keyed: Keyed) -> None:
    nothing_is_heard(keyed.broker, keyed.peer(keyed.cluster.pair("client")))


PAGE = b"""<!doctype html><script>
const message = Uint8Array.from(atob('%s'), c => c.charCodeAt(0));
async function attack() {
  for (let pad = 0; pad < 128; pad++) {
    const body = new Blob(['x'.repeat(pad), message]);
    await fetch('http://127.0.0.1:%d/', {method: 'POST', mode: 'no-cors', body}).catch(() => 0);
  }
  await fetch('/done', {method: 'POST'});
}
attack();
</script>"""


class _Site(http.server.BaseHTTPRequestHandler):
    """A page of an attacker."""

    page = b""
    done = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def do_POST(self) -> None:
        self.done.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def browsing(chromium: str, url: str, profile: Path) -> Iterator[None]:
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", url]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_page_in_a_browser_reaches_nothing(bench: Bench, tmp_path: Path) -> None:
    """It posts messages to a keyless broker, at every place that they could have in a frame."""
    broker = bench.broker()

    class Site(_Site):
        page = PAGE % (base64.b64encode(zmtp1(HELLO, HELLO, HELLO)), broker.port)
        done = threading.Event()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server, Peers() as connect:
        honest = connect(broker.address)
        honest.hello()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = shutil.which("chromium")
        assert chromium is not None
        try:
            with browsing(
                chromium, f"http://127.0.0.1:{server.server_port}/", tmp_path / "profile"
            ):
                assert Site.done.wait(90), "the browser did nothing"
        finally:
            server.shutdown()
        stats = honest.ask("stats")
        assert stats["sessions"] == 1
        assert "invalid_messages" not in stats["counters"]
    assert "dropped what peer" not in broker.log


@pytest.mark.parametrize("mechanism", [CURVE, NULL], ids=["curve", "null"])
def test_strangers_fill_no_memory(keyed: Keyed, mechanism: bytes) -> None:
    """Frames of 300 MiB before the handshake, whose last part does not come."""
    honest = keyed.peer(keyed.cluster.pair("client"))
    honest.hello()
    before = keyed.broker.rss
    chunk = bytes(1 << 20)
    socks = []
    try:
        for kind in (
            b"\x02",
            b"\x06",
            b"\x03",
        ):  # a long message, command, and one with more behind
            sock = socket.create_connection(("127.0.0.1", keyed.broker.port), timeout=SECONDS)
            socks.append(sock)
            with contextlib.suppress(ConnectionError):
                sock.sendall(mechanism + kind + (300 << 20).to_bytes(8, "big"))
                for _ in range(299):
                    sock.sendall(chunk)
        honest.ask("stats")
        assert keyed.broker.rss - before < 8 << 20
    finally:
        for sock in socks:
            sock.close()


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[None]:
    """Up to `count` connections that say nothing, made again whenever the broker shuts them."""
    over, there = threading.Event(), threading.Event()
    socks: list[socket.socket] = []

    def keep() -> None:
        made = 0
        while not over.wait(0.001):
            for sock in socks:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    if sock.recv(1024):
                        continue
                    socks.remove(sock)
                    sock.close()
                    break
            if len(socks) < count:
                with contextlib.suppress(OSError):
                    socks.append(socket.create_connection(("127.0.0.1", port), timeout=1))
                    made += 1
            if made == count:
                there.set()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        assert there.wait(SECONDS), "no crowd"
        yield
    finally:
        over.set()
        thread.join(SECONDS)
        for sock in socks:
            sock.close()


@pytest.fixture
def cramped(bench: Bench, peers: Peers) -> Keyed:
    """A broker that may have 200 descriptors."""
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    journal = str(bench.folder / "journal")
    return Keyed(bench, peers, prefix=("prlimit", "--nofile=200:200"), journal=journal)


def test_idle_connections_keep_nobody_out_and_no_revoked_key_in(cramped: Keyed) -> None:
    keyed = cramped
    alice, mallory = (role_key.load(keyed.key(name, "client")) for name in ("alice", "mallory"))
    assert isinstance(alice, RoleKey)
    assert isinstance(mallory, RoleKey)
    revoked = keyed.peer(mallory.pair)
    revoked.hello()
    with crowd(keyed.broker.port, 400):
        allow_list.revoke(keyed.allowed, "mallory")
        assert revoked.until(Refused, SECONDS).code == "revoked"
        again = keyed.peer(mallory.pair)
        with contextlib.suppress(zmq.Again):  # it may have been refused before it says a word
            again.send(client_hello())
        honest = keyed.peer(alice.pair)
        honest.hello()
        # Which takes descriptors of the broker's own.
        honest.submit("large", [(b"head", bytes(8 << 20))], durable=True)
        eventually(lambda: honest.ask("job", id="large"), SECONDS)
        assert again.receive(0.3) is None
        assert honest.ask("stats")["counters"]["connections_shut"] > 0
    assert keyed.broker.alive


def test_a_crowd_takes_nothing_that_the_journal_needs(cramped: Keyed) -> None:
    alice = role_key.load(cramped.key("alice", "client"))
    assert isinstance(alice, RoleKey)
    honest = cramped.peer(alice.pair)
    honest.hello()
    # Each has a file of its own. While these are written, the broker hears of no connection.
    bodies: list[Payload] = [(b"head", bytes([number]) * (300 << 10)) for number in range(200)]
    with crowd(cramped.broker.port, 400):
        honest.submit("many", bodies, durable=True)
        assert honest.ask("job", id="many")["queued"] == len(bodies)
    assert "too many files" not in cramped.broker.log, "it has not even waited for one"
    assert cramped.broker.alive
