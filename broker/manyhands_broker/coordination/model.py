"""What there is: programs, their members, and the agents that speak for hosts."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_shared.protocol.messages.coordination import Response, Start

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
        "host",
        "id",
        "info",
        "lease_until",
        "members",
        "node",
        "peer",
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
        #: Members that are placed there, roots too, until they have ended.
        self.members: dict[Member, None] = {}


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
        #: Why it ends; empty while it does not.
        self.ending = ""
        #: All that have not ended, or whose parent has not taken note of it.
        self.members: dict[bytes, Member] = {}


class Member:
    """A process of a program."""

    __slots__ = (
        "agent",
        "answers",
        "by_signal",
        "code",
        "host",
        "host_lost",
        "id",
        "last_number",
        "name",
        "node",
        "parent",
        "phase",
        "pid",
        "program",
        "reason",
        "since",
        "start",
        "told",
        "waiting",
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
        #: Whether its agent knows that the broker has its end.
        self.told = False
        #: Of its requests: the last number, the answers that it may not have, in the order in which they
        #: were sent, and what waits: number → the object's key.
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
