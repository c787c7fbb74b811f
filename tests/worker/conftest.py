"""What the tests of the node share: a pool with its loop, and a broker that does as it is told."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
import zmq

from manyhands_shared import failure, serial, wire
from manyhands_shared import messages as m
from manyhands_shared.keys import ClusterKey
from manyhands_shared.status import Status
from manyhands_worker import actions as a
from manyhands_worker.control import REVOKED
from manyhands_worker.core import Identity, NodeCore
from manyhands_worker.dispatch import Dispatcher
from manyhands_worker.pool import NodePool
from manyhands_worker.tasks import Chunk
from support import eventually

PATIENCE = 20.0
_DIGEST = b"d" * 16


def code_of(function: Any) -> tuple[bytes, bytes]:
    """Digest and payload of a function, sent by value even from a test module."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    ours = module is not None and "test_" in module.__name__
    if ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        code = serial.dumps_by_value(function)
    finally:
        if ours:
            cloudpickle.unregister_pickle_by_value(module)
    return hashlib.blake2b(code, digest_size=16).digest(), code


def value_of(status: int, body: serial.Payload) -> Any:
    """A result's value, or its failure."""
    return serial.loads(body) if status == Status.OK else failure.Failure.decode(body)


class PoolRig:
    """A `NodePool` with a loop that runs until something is true."""

    def __init__(self, slots: int, slab_bytes: int, **options: Any) -> None:
        self.selector = selectors.DefaultSelector()
        self.pool = NodePool(slots, slab_bytes, self.selector, **options)
        self.work = Dispatcher(slots)
        self.events: list[a.Event] = []
        #: (status, value or failure) of each task that ended, by its number.
        self.ended: dict[int, tuple[int, Any]] = {}
        #: The blocks of results that are not freed yet, if `keep_blocks`.
        self.blocks: list[a.Block] = []
        self.keep_blocks = False
        self._numbers = itertools.count()

    def submit(self, function: Any, *args: Any, count: int = 1, limit: int = 0) -> list[int]:
        """Queue tasks of one function; `limit` is `tasks_per_child`. Returns their numbers."""
        digest, code = code_of(function)
        indices = [next(self._numbers) for _ in range(count)]
        body = serial.dumps((args, {}))
        self.work.queue.append(
            Chunk(("job", 1), digest, limit, list(indices), [body] * count, code)
        )
        return indices

    def turn(self, timeout: float = 0.05) -> None:
        """One turn of the loop."""
        now = time.monotonic()
        for slot, batch in self.work.next_batches(now):
            self.pool.start(slot, batch)
        for slot in self.work.worn_out():
            self.pool.retire(slot, now)
        times = [now + timeout, self.pool.deadline]
        pause = max(0.0, min(t for t in times if t is not None) - now)
        for key, events in self.selector.select(pause):
            key.data(events)
        self.pool.turn(time.monotonic())
        for event in self.pool.take_events():
            self.events.append(event)
            self._take(event)

    def _take(self, event: a.Event) -> None:
        match event:
            case a.Finished():
                _, indices, statuses, bodies = self.work.finished(
                    event.slot,
                    event.first,
                    event.statuses,
                    event.bodies,
                    event.seconds,
                    time.monotonic(),
                )
                for index, status, body in zip(indices, statuses, bodies, strict=True):
                    assert index not in self.ended, "a task ended twice"
                    value = value_of(status, body)
                    self.ended[index] = (status, cloudpickle.loads(cloudpickle.dumps(value)))
                self.blocks += event.blocks
                if not self.keep_blocks:
                    self.free()
            case a.Claimed():
                self.work.claimed(event.slot, event.claim)
            case a.Died():
                blamed = self.work.died(event.slot, event.claim, event.blamed)
                if blamed is not None:
                    self.ended[blamed[1]] = (Status.CRASHED, event.text)
            case a.Born():
                self.work.born(event.slot)

    def free(self) -> None:
        """The broker has acknowledged everything."""
        for block in self.blocks:
            block.free()
        self.blocks.clear()

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Run the loop until `condition()` is true; returns what it gave."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < end, f"not in time: {what or condition}"
            self.turn()
        return value

    def outcome(self, numbers: list[int]) -> list[tuple[int, Any]]:
        """Run the loop until these tasks ended."""
        self.until(lambda: self.ended.keys() >= set(numbers), f"tasks {numbers[:3]}…")
        return [self.ended[number] for number in numbers]

    def call(self, function: Any, *args: Any) -> tuple[int, Any]:
        """Run one task: its status and its value or failure."""
        return self.outcome(self.submit(function, *args))[0]

    def started(self, slot: int = 0) -> int:
        """Run the loop until a slot's child is in a task; returns the child's process id."""
        self.until(lambda: self._busy(slot), "the task started")
        return self.pool.pid(slot)

    def _busy(self, slot: int) -> bool:
        child = self.pool._children[slot]
        return child is not None and child.busy

    def deaths(self) -> list[a.Died]:
        """Children that died so far."""
        return [event for event in self.events if isinstance(event, a.Died)]


@pytest.fixture
def rig() -> Iterator[Callable[..., PoolRig]]:
    """Makes pools, and closes them."""
    rigs: list[PoolRig] = []

    def make(slots: int = 1, slab_bytes: int = 4 << 20, **options: Any) -> PoolRig:
        rigs.append(PoolRig(slots, slab_bytes, **options))
        return rigs[-1]

    yield make
    for each in rigs:
        each.pool.close()
        each.selector.close()


class World:
    """A node's core between a broker and a pool that are played by the test."""

    def __init__(self, slots: int = 2) -> None:
        self.core = NodeCore(Identity("unit", b"b" * 16, slots, 1_000, 30.0))
        self.now = 100.0
        self.sent: list[m.Message] = []
        self.effects: list[a.Effect] = []
        #: What each slot's child has been given: (serial, key, index), oldest first.
        self.given: dict[int, list[tuple[int, a.Key, int]]] = {n: [] for n in range(slots)}
        self.limits: dict[int, int] = {}
        self.dead: set[int] = set()
        self.retired: set[int] = set()
        self.claims = dict.fromkeys(range(slots), 0)
        self.unacknowledged: list[m.Results] = []
        for slot in range(slots):
            self.tell(a.Born(slot))

    def tell(self, event: a.Event) -> None:
        """Give the core an event and note its effects."""
        for effect in self.core.handle(event, self.now):
            self.effects.append(effect)
            match effect:
                case a.Send(message):
                    self.sent.append(message)
                    if isinstance(message, m.Results):
                        self.unacknowledged.append(message)
                case a.Start(slot, batch):
                    assert slot not in self.dead
                    serials = range(batch.first, batch.first + len(batch.indices))
                    self.given[slot] += [
                        (serial, batch.key, index)
                        for serial, index in zip(serials, batch.indices, strict=True)
                    ]
                    self.limits.pop(slot, None)
                case a.Revoke(slot, limit):
                    self.limits[slot] = limit
                case a.Kill(slot):
                    self.dead.add(slot)
                case a.Retire(slot):
                    assert not self.given[slot]
                    self.retired.add(slot)
        self.core.validate()

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and end a turn."""
        self.now += seconds
        self.tell(a.Tick())

    def say(self, message: m.Message) -> None:
        """A message from the broker."""
        self.tell(a.Received(message))

    def connect(self, keep: list[m.Span] | None = None) -> None:
        """A new link, up to the welcome."""
        self.unacknowledged.clear()
        self.tell(a.LinkUp())
        hello = self.last(m.WorkerHello)
        self.welcome(hello.holding if keep is None else keep)

    def welcome(self, keep: list[m.Span]) -> None:
        """The broker's welcome."""
        self.say(m.WorkerWelcome(1, b"x" * 16, 15.0, 5.0, 9, 1, b"k" * 32, 1.0, keep))

    def assign(self, *indices: int, job: str = "j", attempt: int = 1, code: bool = True) -> None:
        """Tasks from the broker."""
        if code:
            self.say(m.Function(_DIGEST, "f", [b"code"]))
        bodies: list[Any] = [b"args"] * len(indices)
        self.say(m.Assign([m.AssignGroup(job, attempt, _DIGEST, None, list(indices), bodies)]))

    def give_function(self) -> None:
        """The function that all tasks need."""
        self.say(m.Function(_DIGEST, "f", [b"code"]))

    def left_of_batch(self, slot: int) -> int:
        """Unreported tasks of a slot's oldest batch."""
        batches = self.core._work._work.slots[slot].batches
        return len(batches[0].indices) - batches[0].done if batches and self.given[slot] else 0

    def revoking(self, slot: int) -> bool:
        """Whether the core waits for a slot's `Claimed`."""
        return self.core._work._work.slots[slot].revoking

    def held(self) -> int:
        """Tasks that the node holds."""
        return len(self.core._work)

    def last(self, kind: type) -> Any:
        """The newest message of a kind."""
        return next(message for message in reversed(self.sent) if isinstance(message, kind))

    def finish(self, slot: int, count: int = 1, seconds: float = 1e-6) -> None:
        """A slot reports its next tasks, those at its limit as revoked."""
        given = self.given[slot][:count]
        # A report never crosses a batch; nor does it here, for all tasks are of one group.
        limit = self.limits.get(slot, 1 << 62)
        statuses = bytes(
            REVOKED if serial >= limit and serial > self.claims[slot] else Status.OK
            for serial, _, _ in given
        )
        del self.given[slot][:count]
        self.claims[slot] = max(self.claims[slot], given[-1][0])
        bodies: list[Any] = [b"r"] * count
        self.tell(a.Finished(slot, given[0][0], statuses, bodies, seconds * count, count))

    def die(self, slot: int, blamed: int = 0) -> None:
        """A slot's child dies and another is born."""
        asked = slot in self.dead
        self.dead.discard(slot)
        self.given[slot].clear()
        self.limits.pop(slot, None)
        self.tell(a.Died(slot, self.claims[slot], 0 if asked else blamed, "it died", asked))
        self.tell(a.Born(slot))


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Makes a core, its pool and a broker that has welcomed it."""

    def make(slots: int = 2) -> World:
        made = World(slots)
        made.connect()
        return made

    return make


@pytest.fixture
def fresh_world() -> World:
    """A core without a link."""
    return World()


class FakeBroker:
    """A `ROUTER` that says what the test says, and answers `Renew` by itself."""

    def __init__(self, key: ClusterKey | None = None, port: int = 0) -> None:
        self.context = zmq.Context()
        self.lease = 15.0
        self.renew_interval = 1.0
        self.beat_port = 0
        self.answer_renewals = True
        #: Acknowledge results as they come.
        self.acknowledge = True
        self.peer = b""
        self.hello: m.WorkerHello | None = None
        self.received: list[m.Message] = []
        self.results: dict[tuple[str, int, int], tuple[int, Any]] = {}
        self._port = port
        self.open()

    def open(self) -> None:
        """Bind, on the same port as before."""
        self.router: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.router.set(zmq.LINGER, 0)
        self.router.set(zmq.ROUTER_MANDATORY, 1)
        eventually(self._bind, what="the port was free")
        self.address = self.router.get(zmq.LAST_ENDPOINT).decode().rstrip("\0")
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
        self.router.send_multipart([peer or self.peer, *wire.encode(message)])

    def receive(self, timeout: float = PATIENCE) -> m.Message:
        """The next message that is not a renewal."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            if left <= 0 or not self.router.poll(left * 1000):
                raise AssertionError(f"nothing within {timeout} s; before that: {self.received}")
            peer, *frames = self.router.recv_multipart()
            message = wire.decode(frames)
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
        hello = self.expect(m.WorkerHello)
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
        bodies = [serial.dumps((args, {})) for args in calls]
        indices = list(range(first, first + len(calls)))
        self.send(m.Assign([m.AssignGroup(job, attempt, digest, options, indices, bodies)]))
        return digest

    def until_ended(self, count: int) -> dict[tuple[str, int, int], tuple[int, Any]]:
        """Wait for the results of so many tasks."""
        while len(self.results) < count:
            self.receive()
        return self.results


class NodeProcess:
    """A node in a process of its own, as an embedded cluster starts it."""

    def __init__(
        self, address: str, *arguments: str, pass_fds: tuple[int, ...] = (), **options: Any
    ) -> None:
        config = {"broker": address, "slots": 1, "beats": False, "slab_bytes": 4 << 20, **options}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "manyhands_worker",
                "--config-json",
                json.dumps(config),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
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


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker on a free port of this machine."""
    fake = FakeBroker()
    yield fake
    fake.close()
    fake.context.term()


@pytest.fixture
def start_node(broker: FakeBroker) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes of that broker, and ends them."""
    nodes: list[NodeProcess] = []

    def start(*arguments: str, address: str = "", **options: Any) -> NodeProcess:
        nodes.append(NodeProcess(address or broker.address, *arguments, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def node(broker: FakeBroker, start_node: Callable[..., NodeProcess]) -> NodeProcess:
    """A node of one slot that the broker has welcomed."""
    node = start_node()
    broker.welcome()
    return node
