"""A broker that does as the test says, and nodes to go with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from harness.payloads import PATIENCE, code_of, value_of
from harness.processes import eventually, import_path
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.transport import zmq_pieces


class FakeBroker:
    """A `ROUTER` that says what the test says, and answers `Renew` by itself."""

    def __init__(self, port: int = 0) -> None:
        self.context = zmq.Context()
        #: So long that no node loses it while the test does something else.
        self.lease = 600.0
        self.renew_interval = 1.0
        self.beat_port = 0
        self.hash_seed = 12345
        self.answer_renewals = True
        #: Acknowledge results as they come.
        self.acknowledge = True
        self.peer = b""
        self.hello: m.WorkerHello | None = None
        self.received: list[m.Message] = []
        self.results: dict[tuple[str, int, int], tuple[int, Any]] = {}
        self._port = port
        self.open()

    def open(self, secret: bytes = b"") -> None:
        """Bind, on the same port as before; with a CURVE secret, encrypted."""
        self.router: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.router.set(zmq.LINGER, 0)
        self.router.set(zmq.ROUTER_MANDATORY, 1)
        if secret:
            self.router.set(zmq.CURVE_SERVER, 1)
            self.router.set(zmq.CURVE_SECRETKEY, secret)
        eventually(self._bind, what="the port was free")
        endpoint = self.router.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.address = endpoint.decode().rstrip("\0")
        self._port = int(self.address.rpartition(":")[2])

    def _bind(self) -> bool:
        try:
            self.router.bind(f"tcp://127.0.0.1:{self._port or '*'}")
        except zmq.ZMQError:
            return False  # ZeroMQ closes in the background
        return True

    def close(self) -> None:
        """Vanish without a word."""
        self.router.close(0)

    def send(self, message: m.Message, peer: bytes = b"") -> None:
        """Send a message to the node."""
        self.router.send_multipart([peer or self.peer, *zmq_pieces.cut(wire.encode(message))])

    def receive(self, timeout: float = PATIENCE) -> m.Message:
        """The next message that is not a renewal."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            if left <= 0 or not self.router.poll(int(left * 1000)):
                raise AssertionError(f"nothing within {timeout} s; before that: {self.received}")
            peer, *frames = self.router.recv_multipart()
            message = wire.decode(zmq_pieces.join(frames))
            if isinstance(message, m.WorkerHello):
                self.peer, self.hello = peer, message
            elif peer != self.peer:
                continue
            if isinstance(message, m.Renew) and message.window:
                if self.answer_renewals:
                    self.send(m.Lease(message.counter))
                continue
            if isinstance(message, m.Results):
                self._note(message)
            self.received.append(message)
            return message

    def _note(self, message: m.Results) -> None:
        for group in message.groups:
            ended = zip(group.indices, group.statuses, group.bodies, strict=True)
            for index, status, body in ended:
                whole = body if isinstance(body, bytes) else tuple(map(bytes, body))
                self.results[group.job, group.attempt, index] = (status, value_of(status, whole))
        if self.acknowledge:
            self.send(m.Ack(message.seq))

    def expect(self, kind: type, timeout: float = PATIENCE) -> Any:
        """The next message of a kind; others are noted."""
        while not isinstance(message := self.receive(timeout), kind):
            pass
        return message

    def welcome(self, keep: list[m.Span] | None = None) -> m.WorkerHello:
        """Wait for a hello and answer it; keeps everything unless told otherwise."""
        hello: m.WorkerHello = self.expect(m.WorkerHello)
        self.send(
            m.WorkerWelcome(
                m.PROTOCOL_VERSION,
                b"b" * 16,
                self.lease,
                self.renew_interval,
                self.beat_port,
                3,
                b"k" * 32,
                0.1,
                hello.holding if keep is None else keep,
                self.hash_seed,
            )
        )
        return hello

    def assign(
        self,
        function: Any,
        *calls: tuple[Any, ...],
        job: str = "job",
        attempt: int = 1,
        first: int = 0,
        options: dict[str, Any] | None = None,
        with_code: bool = True,
    ) -> bytes:
        """Assign one task per argument tuple, with the function before them. Returns its digest."""
        digest, code = code_of(function)
        if with_code:
            self.send(m.Function(digest, "function", [code]))
        bodies = [pickled.dumps((args, {})) for args in calls]
        indices = list(range(first, first + len(calls)))
        self.send(m.Assign([m.AssignGroup(job, attempt, digest, options, indices, bodies)]))
        return digest

    def until_ended(self, count: int) -> dict[tuple[str, int, int], tuple[int, Any]]:
        """Wait for the results of `count` tasks."""
        while len(self.results) < count:
            self.receive()
        return self.results


class NodeProcess:
    """A node in a process of its own, as an embedded cluster starts it."""

    def __init__(
        self,
        address: str,
        *,
        scratch: str = "",
        before: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        config = {"broker": address, "slots": 1, "beats": False, "slab_bytes": 4 << 20, **options}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "manyhands_worker", "--config-json", json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=before,  # noqa: PLW1509 - a test of control groups enters its own here
            env={**os.environ, **import_path(), **({"TMPDIR": scratch} if scratch else {})},
        )
        self.pid = self.process.pid
        self.output = ""
        self.errors = ""
        self._threads = [
            threading.Thread(target=self._collect, args=(name,), daemon=True)
            for name in ("output", "errors")
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, name: str) -> None:
        stream = self.process.stdout if name == "output" else self.process.stderr
        assert stream is not None
        for line in stream:
            setattr(self, name, getattr(self, name) + line)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, with all its output collected."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
