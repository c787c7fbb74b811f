"""The coordinator between host agents, with a log and a clock that is stepped."""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack

from harness.worlds.object_log import ObjectLog
from manyhands_broker.coordination.coordinator import Coordinator
from manyhands_broker.coordination.effects import Effect
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.core import (
    ANYBODY,
    Drained,
    Event,
    Identity,
    Limits,
    LinkClosed,
    Received,
    Send,
)
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.machine import Machine
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.state.fleet import Fleet
from manyhands_shared.coordination import identity
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

M = TypeVar("M")
SECRET = b"secret of the pr"
PROGRAM = identity.program_id(SECRET)
MEMBER_KEY = identity.member_key(SECRET)
ROOT = b"R" * 16


class AgentsWorld:
    """A coordinator, the agents of hosts as the test has them speak, and a log.

    Each step is a drain: what it writes is in `log` before its messages are in `inbox`.
    """

    def __init__(
        self, hosts: tuple[str, ...] = ("a", "b"), limits: CoordinationLimits | None = None
    ) -> None:
        self.limits = limits or CoordinationLimits()
        self.now = 100.0
        self.fleet = Fleet(Limits())
        self.log = ObjectLog()
        #: What was sent over each link: the last link of host "a" is called b"a".
        self.inbox: dict[bytes, list[m.Message]] = {}
        #: What there was in the log when a message left.
        self.logged_at_start: dict[bytes, bool] = {}
        for host in hosts:
            self.add_node(host)
        self.start()

    def start(self) -> None:
        """Start the broker, on the log that there is."""
        self.coordinator = Coordinator(
            self.limits, b"B" * 16, self.fleet, self.now, failed=_fail, epoch=1e6
        )
        records = [
            Record(kind, key, msgpack.unpackb(payload, strict_map_key=False))
            for (kind, key), payload in self.log.items()
        ]
        self.do(self.coordinator.restore(records, self.now))
        self.take(Drained())

    def restart(self, after: float = 1.0) -> None:
        """Kill the broker, and start it again a little later; agents have to say hello again."""
        self.inbox.clear()
        self.now += after
        self.start()

    # What there is

    def add_node(self, host: str, *, cores: int = 1, **info: Any) -> Node:
        """Have a node on a host, which can start an agent."""
        node = Node(f"node {host}".encode(), f"node-{host}", host.encode() * 16, len(self.fleet), 0)
        node.info = {"agent": f"@agent-{host}", "host": f"machine-{host}", **info}
        node.host_id, node.slots, node.window = host, cores, 10
        node.machine = Machine(cores=cores)
        node.labels = frozenset(info.get("labels", ("pickle",)))
        self.fleet.add(node)
        self.fleet.update(node, capabilities=True)
        return node

    def connect(
        self,
        host: str,
        *members: c.MemberState,
        agent: bytes = b"",
        link: bytes = b"",
        who: Identity = ANYBODY,
        node: str | None = None,
        capacity: int = 100,
    ) -> list[m.Message]:
        """Have the agent of a host say hello; return the answers."""
        link = link or host.encode()
        agent_id = agent or host.encode() * 16
        hello = c.AgentHello(
            m.PROTOCOL_VERSION,
            host,
            f"node-{host}" if node is None else node,
            host.encode() * 16,
            agent_id,
            f"@agent-{host}",
            capacity,
            list(members),
            b"",
            {},
        )
        return self.say(link, hello, who)

    def say(
        self, link: bytes | str, message: m.Message, who: Identity = ANYBODY
    ) -> list[m.Message]:
        """Have a message come over a link; return what goes back over it."""
        link = link.encode() if isinstance(link, str) else link
        before = len(self.inbox.get(link, []))
        self.take(Received(link, message, who), Drained())
        return self.inbox.get(link, [])[before:]

    def close(self, link: str) -> None:
        """Close a link."""
        self.take(LinkClosed(link.encode()), Drained())

    def advance(self, seconds: float, *, renew: tuple[str, ...] = ()) -> None:
        """Let time pass, in steps; the agents in `renew` keep their leases."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            for link in renew:
                self.take(Received(link.encode(), m.Renew(1, 0, 100, [])))
            self.take(Drained())

    # Programs

    def begin_program(self, host: str = "a") -> c.Placed:
        """Have a root begin its program."""
        self.say(host, c.Program(PROGRAM, ROOT, host, MEMBER_KEY, {"pid": 1, "name": "p.py"}))
        return self.last(host, c.Placed)

    def start_process(
        self, member: bytes, *, by: str = "a", parent: bytes = ROOT, **options: Any
    ) -> c.Placed:
        """Have a member start a process; return where it is placed."""
        options = {"name": f"Process-{member[:1].decode()}", **options}
        self.say(by, c.Start(member, parent, PROGRAM, options, b"", [b"work"]))
        return self.last(by, c.Placed)

    def run_process(self, member: bytes, *, by: str = "a", **options: Any) -> str:
        """Start a process and have it begin; return its host."""
        host = self.start_process(member, by=by, **options).host
        self.say(host, c.Began(member, 4_000 + member[0]))
        return host

    # What was said

    def last(self, link: str, kind: type[M]) -> M:
        """Return the last message of a kind that was sent over a link."""
        found = [one for one in self.inbox.get(link.encode(), []) if isinstance(one, kind)]
        assert found, f"no {kind.__name__} was sent to {link}"
        return found[-1]

    def sent(self, link: str, kind: type[M]) -> list[M]:
        """Return the messages of a kind that were sent over a link, and forget all that were."""
        return [one for one in self.inbox.pop(link.encode(), []) if isinstance(one, kind)]

    # Driving

    def take(self, *events: Event) -> None:
        """Have events happen."""
        for event in events:
            self.do(self.coordinator.handle(event, self.now))
        self.coordinator.validate()

    def do(self, effects: list[Effect]) -> None:
        """Write the log, then send."""
        self.log.write(effects)
        for effect in effects:
            if isinstance(effect, Send):
                self.inbox.setdefault(effect.peer, []).append(effect.message)
                if isinstance(effect.message, c.Start):
                    member = effect.message.member
                    self.logged_at_start[member] = (RecordKind.MEMBER, member) in self.log


def running(member: bytes, pid: int = 1) -> c.MemberState:
    """Return how an agent says that a member runs."""
    return c.MemberState(member, PROGRAM, _parent(member), c.RUNNING, pid)


def starting(member: bytes) -> c.MemberState:
    """Return how an agent says that a member is being started."""
    return c.MemberState(member, PROGRAM, _parent(member), c.STARTING, 0)


def _parent(member: bytes) -> bytes:
    return bytes(16) if member == ROOT else ROOT


def _fail(error: Exception, job: Job | None) -> None:
    raise error
