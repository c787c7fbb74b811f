"""Hosts that share memory: the cores of broker and agents, with FIFO links that a test steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from manyhands_broker.coordination.coordinator import Coordinator
from manyhands_broker.coordination.effects import Write as WriteRecord
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.core.effects import Send
from manyhands_broker.core.events import Drained, LinkClosed, Received
from manyhands_broker.core.model.identity import ANYBODY
from manyhands_shared.coordination.identity import member_key, program_id, proof
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.identity import AgentIdentity

SECRET = b"secret of a test"
PROGRAM, KEY = program_id(SECRET), member_key(SECRET)


class Memory:
    """What stands for the memory of a host."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.memory = memoryview(bytearray(size))
        self.twin = memoryview(b"")

    def make_twin(self) -> None:
        self.twin = memoryview(bytearray(len(self.memory)))

    def is_same(self, at: int, size: int) -> bool:
        return bytes(self.memory[at : at + size]) == bytes(self.twin[at : at + size])

    def extents(self) -> Iterator[tuple[int, int]]:
        yield 0, len(self.memory)

    def close(self) -> None:
        self.descriptor = -1


class Memories:
    """Makes memory; a descriptor is a number of its own."""

    def __init__(self) -> None:
        self.made: dict[int, Memory] = {}

    def fence(self) -> None:
        """There is one thread."""

    def adopt(self, descriptor: int, size: int) -> Memory:
        return self.made.setdefault(descriptor, Memory(descriptor, size))

    def make(self, size: int) -> Memory:
        return self.adopt(self.new_descriptor(), size)

    def new_descriptor(self) -> int:
        """Return a number that is none's."""
        return len(self.made) + 1000


class Nothing:
    """Nodes that there are none of."""

    by_peer: dict[bytes, Any] = {}  # noqa: RUF012 - nothing is ever added

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: []


class Host:
    """An agent with one member, which is the root on the first host."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"h{number}"
        self.id = bytes([number + 1]) * 16
        self.member = bytes([number + 101]) * 16
        self.peer = b""
        self.memories = Memories()
        identity = AgentIdentity(self.id, self.name, f"n{number}", bytes(16), "@", 10)
        self.core = AgentCore(identity, self.memories)
        self.up: deque[list[Buffer]] = deque()
        self.down: deque[Message] = deque()
        #: What the member was told, with descriptors.
        self.told: list[tuple[Message, tuple[int, ...]]] = []
        self.links = 0
        self.requests = 0

    def connect(self) -> None:
        """Make a link, or another one: what was on the way is lost."""
        if self.peer:
            self.up.clear()
            self.down.clear()
            self.world.tell(LinkClosed(self.peer))
            self.happen(events.LinkLost())
        self.links += 1
        self.peer = b"%s-%d" % (self.name.encode(), self.links)
        self.happen(events.LinkUp())

    def happen(self, event: events.Event) -> None:
        for effect in self.core.handle(event, self.world.now):
            match effect:
                case effects.Send(message):
                    self.up.append(wire.encode(message))
                case effects.Tell(_, message, descriptors):
                    self.told.append((message, tuple(descriptors)))
                case effects.ReadOut(_, _, then):
                    self.happen(then)
        self.core.validate()

    def say(self, message: Message, *descriptors: int) -> None:
        """Have the member say something."""
        self.happen(events.Heard(-1, message, list(descriptors)))

    def ask(self, operation: int, key: bytes, *arguments: Any, quiet: bool = False) -> int:
        """Have the member ask; return the number of the request."""
        self.requests += 1
        self.say(
            c.Request(self.member, self.requests, 0, key, operation, quiet, list(arguments), [])
        )
        return self.requests

    def send_up(self) -> bool:
        """Let the broker hear one message."""
        if not self.up:
            return False
        self.world.tell(Received(self.peer, wire.decode(self.up.popleft()), ANYBODY))
        return True

    def take_down(self) -> bool:
        """Let the agent hear one message."""
        if not self.down:
            return False
        self.happen(events.Received(self.down.popleft()))
        return True

    def memory(self, segment: bytes) -> memoryview | None:
        """Return the segment's memory, if the member has it."""
        for message, descriptors in self.told:
            if isinstance(message, c.Mapped) and message.segment == segment and descriptors:
                return self.memories.made[descriptors[0]].memory
        return None


class World:
    """A broker, and hosts whose members are of one program."""

    def __init__(self, hosts: int, **limits: Any) -> None:
        self.now = 0.0
        self.limits = CoordinationLimits(**limits)
        self.records: dict[tuple[int, bytes], Any] = {}
        self.hosts: list[Host] = []
        self.coordinator = self._made()
        for number in range(hosts):
            host = Host(self, number)
            self.hosts.append(host)
            host.connect()
            self.settle()
            if number == 0:
                info = {"pid": 1}
                root = c.Program(PROGRAM, host.member, host.name, KEY, info)
                host.happen(events.Heard(-1, root, [90, 91]))
            else:
                shown = proof(KEY, host.member)
                host.say(c.MemberHello(PROGRAM, host.member, shown, 1))
            self.settle()

    def _made(self) -> Coordinator:
        def failed(error: BaseException, *_: Any) -> None:
            raise error

        return Coordinator(self.limits, b"b" * 16, Nothing(), self.now, failed=failed)

    def restart(self) -> None:
        """Kill the broker, and start it on its log."""
        self.coordinator = self._made()
        records = [Record(RecordKind(kind), key, one) for (kind, key), one in self.records.items()]
        self._do(self.coordinator.restore(records, self.now))
        for host in self.hosts:
            host.connect()

    def tell(self, *happened: Any) -> None:
        """Have the broker hear of events, as one drain."""
        found: list[Any] = []
        for event in (*happened, Drained()):
            found += self.coordinator.handle(event, self.now)
        self._do(found)
        self.coordinator.validate()

    def _do(self, found: list[Any]) -> None:
        for effect in found:
            match effect:
                case WriteRecord(record):
                    place = int(record.kind), record.key
                    if record.payload is None:
                        self.records.pop(place, None)
                    else:
                        self.records[place] = record.payload
                case Send(peer, message):
                    for host in self.hosts:
                        if host.peer == peer:
                            host.down.append(wire.decode(wire.encode(message)))

    def settle(self) -> None:
        """Let everything arrive."""
        busy = True
        while busy:
            busy = False
            for host in self.hosts:
                busy = host.send_up() or host.take_down() or busy

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.now += seconds
        for host in self.hosts:
            host.happen(events.Tick())
        self.tell()
