"""A broker for tests of the client: a real ROUTER in a thread that runs the tasks itself.

It speaks `manyhands_shared.protocol.wire` and keeps sessions as the protocol page says. It can be told
to misbehave: hold tasks back, lose or repeat messages, forget sessions, vanish and come back.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, Self

import zmq

from harness.processes import eventually
from manyhands import Executor
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.payloads.wrappers import Setup
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.exceptions import of_exception
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Function,
    JobCount,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Reply,
    ResultGroup,
    Results,
    Status,
    Submit,
    SubmitGroup,
    Who,
)
from manyhands_shared.transport import zmq_pieces

CANCELLED = Failure("manyhands.Cancelled", "the task was cancelled").encode()


@dataclass
class FakeSession:
    """What the broker remembers of a client."""

    peer: bytes
    #: Something came after the welcome, so the client has seen whether it was resumed.
    confirmed: bool = False
    seq: int = 0
    unacked: dict[int, list[ResultGroup]] = field(default_factory=dict)
    #: Tasks taken of each job.
    counts: dict[str, int] = field(default_factory=dict)
    functions: dict[str, bytes] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    #: Tasks taken and not ended: (job, index) to arguments, in order.
    waiting: dict[tuple[str, int], Payload] = field(default_factory=dict)


def client_threads() -> set[threading.Thread]:
    """Return the I/O threads of the clients that live in this process."""
    return {thread for thread in threading.enumerate() if thread.name == "manyhands-client"}


@contextlib.contextmanager
def busy_io_thread(executor: Executor) -> Iterator[None]:
    """Let the I/O thread have other things to do: how often it looks is not what is tested."""
    busy, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        busy.set()
        go_on.wait(100)

    executor._connection.io.queue.command(pause)
    assert busy.wait(100)
    yield
    go_on.set()


class FakeBroker:
    """Start it with `with`; everything public may be called from the test's thread."""

    def __init__(self, *, window_tasks: int = 1_000_000, window_bytes: int = 1 << 30) -> None:
        self.window_tasks = window_tasks
        self.window_bytes = window_bytes
        #: So long that none comes.
        self.ping_interval = 3_600.0
        #: Every message that came.
        self.received: list[Message] = []
        #: The routing id of every hello.
        self.peers: list[bytes] = []
        #: How often each (job, index) was run.
        self.runs: dict[tuple[str, int], int] = {}
        self.sessions: dict[bytes, FakeSession] = {}
        #: While true, tasks are taken and not run.
        self.holding = False
        #: Run tasks in the reverse of the order they came in.
        self.reversed = False
        #: Incoming messages for which this is true are lost.
        self.loses: Callable[[Message], bool] = lambda message: False
        #: Says instead of the usual what to answer a message with; `None`: the usual.
        self.answers: Callable[[Message], list[Message] | None] = lambda message: None
        #: Each outgoing message becomes these.
        self.mangles: Callable[[Message], list[Message]] = lambda message: [message]
        #: As they came, until one runs: they may be code, which no session runs.
        self.functions: dict[bytes, Callable[[], Any]] = {}
        self.most_waiting = 0
        self._setups: set[bytes] = set()
        self._peers: dict[bytes, FakeSession] = {}
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake_out, self._wake_in = os.pipe()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._port = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="fake-broker")

    def __enter__(self) -> Self:
        self._bind()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(lambda: setattr(self, "_stop", True))
        self._thread.join(100)
        self._unbind()
        self._context.term()
        os.close(self._wake_in)
        os.close(self._wake_out)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def do(self, command: Callable[[], object]) -> None:
        """Have the broker's thread do something, and wait until it has."""
        done = threading.Event()

        def run() -> None:
            try:
                command()
            finally:
                done.set()

        self._commands.put(run)
        os.write(self._wake_in, b"\0")
        assert done.wait(100)

    def release(self) -> None:
        """Run what was held, and hold no more."""
        self.holding = False
        self.do(self._run_tasks)

    def vanish(self) -> None:
        """Close the socket; clients lose their links."""
        self.do(self._unbind)

    def come_back(self, *, forgetful: bool = False) -> None:
        """Listen again at the same port, with or without memory."""

        def back() -> None:
            self._peers.clear()
            if forgetful:
                self.sessions.clear()
                self.functions.clear()
            self._bind()

        self.do(back)

    def forget(self) -> None:
        """Lose every session while the links stand."""

        def forget() -> None:
            self.sessions.clear()
            self._peers.clear()
            self.functions.clear()

        self.do(forget)

    def send(self, message: Message) -> None:
        """Send a message to every client there is."""

        def send() -> None:
            for peer in list(self._peers):
                self._send(peer, message)

        self.do(send)

    def send_raw(self, frames: list[bytes]) -> None:
        """Send any frames to every client there is."""

        def send() -> None:
            assert self._socket is not None
            for peer in self._peers:
                self._socket.send_multipart([peer, *frames])

        self.do(send)

    def count(self, kind: type) -> int:
        """How many messages of a kind have come."""
        return sum(isinstance(message, kind) for message in list(self.received))

    def _bind(self) -> None:
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.linger = 0
        # ZeroMQ gives a port back a moment after it is unbound.
        eventually(self._try_bind, what="the port is free")
        self._port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def _try_bind(self) -> bool:
        assert self._socket is not None
        try:
            self._socket.bind(f"tcp://127.0.0.1:{self._port or '*'}")
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return False
        return True

    def _unbind(self) -> None:
        if self._socket is not None:
            # At once, so that the port is free again.
            self._socket.unbind(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
            self._socket.close()
            self._socket = None

    def _run(self) -> None:
        while not self._stop:
            poller = zmq.Poller()
            poller.register(self._wake_out, zmq.POLLIN)
            if self._socket is not None:
                poller.register(self._socket, zmq.POLLIN)
            ready = dict(poller.poll(10_000))
            if self._wake_out in ready:
                os.read(self._wake_out, 1)
                self._commands.get()()
            if self._socket is not None and self._socket in ready:
                peer, *frames = self._socket.recv_multipart()
                try:
                    message = wire.decode(zmq_pieces.join(frames))
                except ProtocolError:
                    continue
                if not self.loses(message):
                    self.received.append(message)
                    self._receive(peer, message)

    def _receive(self, peer: bytes, message: Message) -> None:  # noqa: C901, PLR0912 - a message a case
        answers = self.answers(message)
        if answers is not None:
            for answer in answers:
                self._send(peer, answer)
            return
        session = self._peers.get(peer)
        if isinstance(message, ClientHello):
            self._greet(peer, message)
            return
        if session is None:
            self._send(peer, Who(b"B" * 16))
            return
        session.confirmed = True
        match message:
            case Submit(groups):
                for group in groups:
                    self._take(session, group)
                counts = [JobCount(group.job, session.counts[group.job]) for group in groups]
                self._send(peer, Accepted(counts, self.window_tasks, self.window_bytes))
            case Function(digest, _, bodies):
                self.functions[digest] = cache(partial(pickled.loads, bodies[0]))
            case Ack(seq):
                session.unacked = {n: r for n, r in session.unacked.items() if n > seq}
            case Cancel(spans):
                for span in spans:
                    named = set(span.indices)
                    chosen = [
                        key
                        for key in session.waiting
                        if key[0] == span.job and (not named or key[1] in named)
                    ]
                    for key in chosen:
                        del session.waiting[key]
                        self._deliver(session, key, Status.CANCELLED, CANCELLED)
            case Query(request, what, arguments):
                data = {"what": what, "arguments": arguments, "slots": 2}
                error = "" if what in ("stats", "echo") else f"unknown question {what!r}"
                self._send(peer, Reply(request, error, data))
            case Ping(counter):
                self._send(peer, Pong(counter))
            case Bye():
                self._peers.pop(peer)
        if not self.holding:
            self._run_tasks()

    def _greet(self, peer: bytes, hello: ClientHello) -> None:
        self.peers.append(peer)
        session = self.sessions.get(hello.session)
        resumed = session is not None and session.confirmed
        if session is None or not resumed:
            session = self.sessions[hello.session] = FakeSession(peer)
        self._peers.pop(session.peer, None)
        session.peer = peer
        self._peers[peer] = session
        welcome = ClientWelcome(
            PROTOCOL_VERSION,
            b"B" * 16,
            resumed,
            self.window_tasks,
            self.window_bytes,
            self.ping_interval,
        )
        self._send(peer, welcome)
        for seq, groups in session.unacked.items():
            if seq > hello.last_seq:
                self._send(peer, Results(seq, groups))

    def _take(self, session: FakeSession, group: SubmitGroup) -> None:
        known = session.counts.setdefault(group.job, 0)
        session.functions[group.job] = group.function
        for index, body in enumerate(group.bodies, group.first):
            if index >= known:
                session.waiting[group.job, index] = body
        session.counts[group.job] = max(known, group.first + len(group.bodies))
        self.most_waiting = max(self.most_waiting, len(session.waiting))
        if group.closed:
            session.closed.add(group.job)

    def _run_tasks(self) -> None:
        for session in self.sessions.values():
            keys = list(session.waiting)
            for key in reversed(keys) if self.reversed else keys:
                function = self.functions.get(session.functions[key[0]])
                if function is None:
                    self._send(session.peer, Need(session.functions[key[0]]))
                    break
                self.runs[key] = self.runs.get(key, 0) + 1
                status, body = self._call(function, session.waiting.pop(key))
                self._deliver(session, key, status, body)

    def _call(self, load: Callable[[], Any], payload: Payload) -> tuple[Status, Payload]:
        try:
            function = load()
            args, kwargs = pickled.loads(payload)
            if isinstance(function, Setup):
                if function.key not in self._setups:
                    function.initializer(*function.initargs)
                    self._setups.add(function.key)
                function = function.function
            return Status.OK, pickled.dumps(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the task's own
            return Status.RAISED, of_exception(error, skip_frames=1).encode()

    def _deliver(
        self, session: FakeSession, key: tuple[str, int], status: Status, body: Payload
    ) -> None:
        session.seq += 1
        groups = [ResultGroup(key[0], 1, [key[1]], bytes([status]), [body], 0.0)]
        session.unacked[session.seq] = groups
        self._send(session.peer, Results(session.seq, groups))

    def _send(self, peer: bytes, message: Message) -> None:
        if self._socket is None:
            return
        for mangled in self.mangles(message):
            try:
                self._socket.send_multipart([peer, *zmq_pieces.cut(wire.encode(mangled))])
            except zmq.ZMQError:
                return  # the peer is gone
