"""What there is: programs, their members, and the agents that speak for hosts."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import Any

from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_shared.coordination.identity import NO_ID
from manyhands_shared.protocol.messages.coordination import Open, Response, Start

#: The parent of a root, and of a pool's child.
NO_PARENT = bytes(16)


class Phase(IntEnum):
    """How far a member has come. The numbers stand in the log."""

    #: Its host is decided and written down; the agent there is not connected, or has not been told.
    PLACED = 0
    #: Its agent has been sent `Start`.
    STARTING = 1
    #: Its agent has said `Began`.
    RUNNING = 2
    #: It has ended, and its parent has not said that it knows.
    ENDED = 3


class Agent:
    """The process that speaks for a host: one life of it, over one link or several."""

    __slots__ = (
        "address",
        "capacity",
        "claims",
        "expired",
        "host",
        "id",
        "info",
        "lease_until",
        "members",
        "node",
        "peer",
        "programs",
        "streams",
        "told",
        "who",
    )

    def __init__(self, agent_id: bytes, host: str, node: str) -> None:
        self.id = agent_id
        self.host = host
        self.node = node
        #: Its link; `None` while it has none.
        self.peer: bytes | None = None
        self.who: Identity = ANYBODY
        self.address = ""
        #: Processes that may be started there.
        self.capacity = 0
        self.info: dict[str, Any] = {}
        self.lease_until = 0.0
        #: Whether its lease has run out: only roots and what is of their programs is left to it.
        self.expired = False
        #: Members that are placed there, roots too, until they have ended; and how many of each program.
        self.members: dict[Member, None] = {}
        self.programs: Counter[Program] = Counter()
        #: Streams with an end there; and claims of ends that it has not answered, by stream.
        self.streams: set[bytes] = set()
        self.claims: dict[bytes, Open] = {}
        #: Programs whose member key it has been sent over this link.
        self.told: set[bytes] = set()

    @property
    def hosts(self) -> bool:
        """Whether it is a node's: it speaks for its host, where a root's own speaks for that root."""
        return bool(self.node)


class Program:
    """A root and every process started from it."""

    __slots__ = (
        "account",
        "began",
        "by_key",
        "ending",
        "host",
        "id",
        "info",
        "member_key",
        "members",
        "root",
        "root_lost_at",
    )

    def __init__(self, program_id: bytes, root: bytes, host: str, member_key: bytes) -> None:
        self.id = program_id
        #: The root's member id, and its host.
        self.root = root
        self.host = host
        self.member_key = member_key
        self.info: dict[str, Any] = {}
        #: On whose account it runs, and the public key that it was registered with.
        self.account = ""
        self.by_key = ""
        self.began = 0.0
        #: Since when its root's host has no link; `None` while it has one.
        self.root_lost_at: float | None = None
        #: Why it ends; empty while it does not.
        self.ending = ""
        #: All that have not ended, or whose parent has not taken note of it.
        self.members: dict[bytes, Member] = {}


class Output:
    """How far one stream of a member has come, in bytes."""

    __slots__ = ("passed", "said", "taken")

    def __init__(self, taken: int, said: int, passed: int | None) -> None:
        #: What the root has said that it has.
        self.taken = taken
        #: What went to the root in order, over its present link. `None` after a restart of the broker,
        #: until the member's agent has said where it goes on.
        self.passed = passed
        #: What the member has written, as far as the broker was told.
        self.said = said


class Member:
    """A process of a program."""

    __slots__ = (
        "agent",
        "answers",
        "behind_output",
        "by_signal",
        "children",
        "code",
        "host",
        "host_lost",
        "id",
        "last_number",
        "name",
        "node",
        "output",
        "parent",
        "phase",
        "pid",
        "program",
        "reason",
        "signals",
        "since",
        "start",
        "waiting",
        "writer",
    )

    def __init__(self, member_id: bytes, program: Program, parent: bytes) -> None:
        self.id = member_id
        self.program = program
        self.parent = parent
        self.name = ""
        #: Where it is, and the agent there; `None` while that is not connected for the first time.
        self.host = ""
        self.node = ""
        self.agent: Agent | None = None
        #: The id of that agent, which has what the member wrote; known of one that has ended, too.
        self.writer = NO_ID
        self.phase = Phase.PLACED
        self.since = 0.0
        self.pid = 0
        self.code = 0
        self.reason = ""
        #: How it ended: by a signal, or with its host. It did not let go of what it held.
        self.by_signal = False
        self.host_lost = False
        #: What it is started with, until it has begun.
        self.start: Start | None = None
        #: Signals that wait for a link to its agent, or for its start.
        self.signals: list[int] = []
        #: What it wrote, by stream. And until when its parent does not hear of its end, since the
        #: root lacks some of that; `None` if nothing stands in the way.
        self.output: dict[int, Output] = {}
        self.behind_output: float | None = None
        #: Members that it has started, until it knows that they have ended.
        self.children: dict[Member, None] = {}
        #: The number of its last request. The answers that it may not have, in the order in which they
        #: were sent. And the requests that wait, each with its object's key.
        self.last_number = 0
        self.answers: dict[int, Response] = {}
        self.waiting: dict[int, bytes] = {}

    @property
    def living(self) -> bool:
        """Whether it has not ended."""
        return self.phase != Phase.ENDED

    @property
    def is_root(self) -> bool:
        """Whether it is its program's root."""
        return self.id == self.program.root
