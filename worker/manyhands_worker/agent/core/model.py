"""Programs and members as a host agent knows them."""

from __future__ import annotations

from dataclasses import dataclass, field

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import ENDED, RUNNING, STARTING, Ended
from manyhands_worker.agent.core.output import MemberOutput

__all__ = ["ENDED", "RUNNING", "STARTING", "HostProgram", "Member", "PendingStart"]

#: The parent of a root and of a pool's child.
NO_MEMBER = bytes(16)


@dataclass(slots=True)
class Member:
    """A process of a program on this host."""

    id: bytes
    program: bytes
    parent: bytes
    #: None once its other end is closed.
    channel: int | None
    phase: int = STARTING
    pid: int = 0
    #: Whether the agent has made its process. A root and a pool's child have come by themselves.
    hosted: bool = False
    #: A root that has lived under another agent before.
    goes_on: bool = False
    #: What the broker has not acknowledged yet.
    ended: Ended | None = None
    output: dict[int, MemberOutput] = field(
        default_factory=lambda: {1: MemberOutput(), 2: MemberOutput()}
    )
    #: Stopped, since the agent lost its lease.
    frozen: bool = False
    #: Why it was killed, if the agent did that.
    reason: str = ""
    #: It has said goodbye.
    leaves: bool = False
    #: The processes that it has started, until it knows of their ends.
    started: set[bytes] = field(default_factory=set)

    @property
    def output_waits(self) -> int:
        """Bytes of its output that the root has not taken."""
        return sum(output.nbytes for output in self.output.values())


@dataclass(slots=True)
class HostProgram:
    """A program that has members on this host."""

    id: bytes
    member_key: bytes | None = None
    #: The root, if it is on this host, and its standard output and error.
    root: bytes | None = None
    streams: tuple[int, int] | None = None
    members: set[bytes] = field(default_factory=set)
    #: Bytes of output that wait for the root.
    output_bytes: int = 0
    #: Where output from other hosts ends that the root has not shown yet, by member and stream.
    unshown: dict[tuple[bytes, int], int] = field(default_factory=dict)
    #: What came for other members behind that output: they must not act on it before.
    delayed: list[tuple[bytes, Message]] = field(default_factory=list)
    #: When what is left of it here is killed.
    kill_at: float | None = None


@dataclass(slots=True)
class PendingStart:
    """A process that a member here has started, wherever it was placed, until its end is known there."""

    parent: bytes
    #: For the case that it is placed on this host: the parent's streams, what is bound, and what
    #: the parent says to this host alone.
    streams: tuple[int, int] | None
    descriptors: list[int]
    local: Payload
