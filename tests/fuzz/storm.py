"""A keyed cluster under a storm of odd messages from every role, with honest work in it all the time."""

from __future__ import annotations

import random
import secrets
import socket
import struct
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import zmq

import manyhands
from fuzz.words import HEAVY, Talk
from harness.cluster.bench import Bench
from harness.cluster.keyed import Keyed
from harness.cluster.peers import Peer, Peers
from harness.hostile import encoded
from harness.processes import eventually, free_port
from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import heartbeat, wire
from manyhands_shared.protocol import messages as m
from manyhands_shared.transport import zmq_pieces

#: Messages between two looks whether all is well, and the memory that the broker may take meanwhile.
CHECK_EVERY = 1_000
MEMORY = 600 << 20
#: Messages until some job's id is given up.
FRESH = 20
#: Seconds for an honest task to come back.
PATIENCE = 100.0


class Vandal:
    """One peer with a key, link after link: each says some hundred things and is gone without a word."""

    def __init__(self, storm: Storm, role: str, number: int) -> None:
        self._storm = storm
        self._pair = storm.keyed.pair(f"{role}{number}", role)
        self._role = role
        self._number = number
        self._left = 0
        self._peer: Peer | None = None
        self._welcome: m.WorkerWelcome | None = None

    def speak(self) -> None:
        """Say one thing."""
        rng = self._storm.rng
        if self._peer is None or not self._left:
            self._begin()
        self._left -= 1
        assert self._peer is not None
        while (frames := encoded(self.talk.message())) is None or self._too_heavy(frames):
            pass
        if rng.random() < 0.02:
            frames = damaged(rng, frames)
        with suppress(zmq.Again):
            if self._peer.socket.poll(5_000, zmq.POLLOUT):
                self._peer.socket.send_multipart(zmq_pieces.cut(frames), zmq.NOBLOCK)
        self._hear()
        if self._welcome is not None and rng.random() < 0.05:
            self._storm.beat(self._welcome)

    def _too_heavy(self, frames: list[bytes]) -> bool:
        return sum(map(len, frames)) > HEAVY and self._storm.rng.random() > 0.01

    def _begin(self) -> None:
        """A new link; most say hello first, some never do."""
        rng = self._storm.rng
        self.close()
        self._left = rng.randrange(20, 400)
        self._peer = self._storm.keyed.peer(self._pair)
        name = f"{self._role}{self._number}-{rng.randrange(3)}"
        token = rng.choice((bytes([self._number]) * 16, secrets.token_bytes(16)))
        self.talk = Talk(rng, self._role, token, name, self._storm.jobs)
        if rng.random() < 0.9:
            kind = m.WorkerHello if self._role == "worker" else m.ClientHello
            self._peer.send(self.talk.record(kind, 0.0))

    def _hear(self) -> None:
        """Whatever has come; what a welcome says of heartbeats is kept."""
        assert self._peer is not None
        while self._peer.socket.poll(0):
            frames = self._peer.socket.recv_multipart()
            with suppress(ProtocolError):
                message = wire.decode(zmq_pieces.join(frames))
                if isinstance(message, m.WorkerWelcome):
                    self._welcome = message
                elif isinstance(message, m.Refused):
                    self._left = 0
                elif isinstance(message, m.Assign) and self._storm.rng.random() < 0.7:
                    for said in self.talk.answer(message):
                        self._peer.send(said)

    def close(self) -> None:
        """Gone without a word."""
        if self._peer is not None:
            self._peer.close()
            self._peer = self._welcome = None


class Storm:
    """The cluster and all who are in it. `close` it, or use it in a ``with``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = Bench(folder)
        self.http = free_port()
        stack = self.bench.stack
        self._udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self.keyed = Keyed(
            self.bench,
            stack.enter_context(Peers()),
            journal=str(folder / "journal"),
            http=f"127.0.0.1:{self.http}",
            lease=2.0,
            session_grace=5.0,
            beat_interval=0.2,
        )
        self.broker = self.keyed.broker
        self.jobs = [f"{kind}{number}" for kind in ("e", "d") for number in range(12)]
        alice = str(self.keyed.key("alice", "client"))
        admin = str(self.keyed.key("root", "admin"))
        self.keyed.node(self.keyed.key("honest", "worker"), "honest", slots=2)
        address = self.broker.address
        self._executor = self.bench.executor(address, key_file=alice, crash_limit=1_000_000)
        self._client = stack.enter_context(manyhands.Client(address, key_file=alice))
        self._admin = stack.enter_context(manyhands.Client(address, key_file=admin))
        self.vandals = [
            Vandal(self, role, n) for role in ("client", "worker", "admin") for n in (1, 2)
        ]
        self._first = self.broker.rss
        self.sent = 0
        self.most = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for vandal in self.vandals:
            vandal.close()
        self.bench.stack.close()

    def rage(self, count: int) -> None:
        """Send `count` messages; check the broker after each `CHECK_EVERY` of them."""
        for _ in range(count):
            self.rng.choice(self.vandals).speak()
            self.sent += 1
            if self.sent % FRESH == 0:
                # One job is over, or as good as that: there is another to be talked about.
                self.jobs[self.rng.randrange(len(self.jobs))] = f"job{self.sent}"
            if self.sent % CHECK_EVERY == 0:
                self.look()

    def look(self) -> None:
        """Assert that the broker lives in bounded memory, and serves the honest."""
        assert self.broker.alive, f"after {self.sent} messages: {self.broker.log[-2_000:]}"
        number = self.sent
        assert self._executor.submit(pow, number, 2).result(PATIENCE) == number**2
        job = self._client.submit_job(divmod, [(number, 7)], durable=True, crash_limit=1_000_000)
        assert job.results() == [divmod(number, 7)]
        for question in ("health", "stats", "nodes", "jobs", "events"):
            self._admin.query(question)
        for page in ("livez", "metrics", "scale"):
            # A broker that was started just now may not serve pages yet.
            eventually(partial(self._shows, page), what=f"the page {page}")
        self.most = max(self.most, self.broker.rss - self._first)
        assert self.most < MEMORY, f"{self.most >> 20} MiB more after {self.sent} messages"

    def _shows(self, page: str) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http}/{page}", timeout=PATIENCE
            ) as told:
                return bool(told.status == 200)
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False

    def restart(self) -> None:
        """Kill the broker and start it again over the same journal; nothing has broken until then."""
        assert not self.broken, self.broker.log
        self.broker.kill()
        for vandal in self.vandals:
            vandal.close()
        self.broker.start()
        self.look()

    @property
    def broken(self) -> int:
        """What has broken inside the broker since its start."""
        counters = self._admin.query("stats")["counters"]
        return int(counters.get("internal_errors", 0))

    def settled(self) -> None:
        """Wait until the honest node is known again."""
        eventually(
            lambda: any(node["name"] == "honest" for node in self._admin.query("nodes")),
            PATIENCE,
            what="the honest node is here",
        )

    def beat(self, welcome: m.WorkerWelcome) -> None:
        """A heartbeat that is signed right and says anything."""
        rng = self.rng
        whole = [rng.choice((0, 1, 1 << 47, (1 << 63) - 1, (1 << 64) - 1)) for _ in range(6)]
        odd = [rng.choice((0.0, -0.0, 5e-324, 1e308, float("nan"), float("inf"))) for _ in range(2)]
        row = rng.choice((welcome.beat_row, rng.randrange(1 << 32)))
        told: Any = (row, b"worker1-0".ljust(16, b"_"), *whole[:3], odd[0], *whole[3:5], odd[1])
        with suppress(struct.error, OSError):
            self.tell(heartbeat.encode(heartbeat.Beat(*told), welcome.beat_key))

    def tell(self, datagram: bytes) -> None:
        """Send something to where heartbeats go."""
        self._udp.sendto(datagram, ("127.0.0.1", self.broker.port))


def damaged(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """The same with a few bytes changed, cut or added."""
    frame = bytearray(frames[0])
    at = rng.randrange(len(frame))
    match rng.randrange(4):
        case 0:
            frame[at] ^= 1 << rng.randrange(8)
        case 1:
            del frame[at:]
        case 2:
            frame[at:at] = rng.randbytes(rng.randrange(1, 9))
        case _:
            # Lengths that promise far more than there is.
            frame[at:at] = rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb"]) + b"\xff" * 4
    return [bytes(frame), *frames[1:]]
