"""What can happen to a host agent."""

from __future__ import annotations

from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record


@record
class LinkUp:
    """The link to the broker is up."""


@record
class LinkLost:
    """The link to the broker broke."""


@record
class Received:
    """A message came from the broker."""

    message: Message


@record
class Heard:
    """A message came over a channel, with descriptors that are the agent's own now."""

    channel: int
    message: Message
    descriptors: list[int]


@record
class Closed:
    """The other end of a channel is closed."""

    channel: int


@record
class Forked:
    """The process of a member is there."""

    member: bytes
    pid: int


@record
class NotForked:
    """The system gave no process for a member."""

    member: bytes
    reason: str


@record
class Reaped:
    """The process of a member has ended, with a code as `Popen` has it; its output was told before."""

    member: bytes
    code: int


@record
class Printed:
    """A member wrote this to standard output (1) or standard error (2)."""

    member: bytes
    stream: int
    data: bytes


@record
class StreamRead:
    """Bytes were read from the end of a stream; none say that there are no more."""

    stream: bytes
    data: bytes


@record
class StreamWrote:
    """Bytes were written to the end of a stream."""

    stream: bytes
    count: int


@record
class StreamBroken:
    """Nothing reads from the end of a stream any more."""

    stream: bytes


@record
class StreamFailed:
    """The system gave no descriptor for the end of a stream."""

    stream: bytes
    reason: str


@record
class ReadAll:
    """All was read that a member had said when a delegated lock was called back from it.

    `thread` was the one that had the lock then, 0 if none had it.
    """

    member: bytes
    key: bytes
    number: int
    thread: int


@record
class NoServer:
    """What forks members has ended, and every member with it."""

    reason: str


@record
class Leave:
    """The agent is to leave: when its members have ended, or at once."""

    reason: str
    now: bool


@record
class Tick:
    """A turn of the loop ends."""


Event = (
    LinkUp
    | LinkLost
    | Received
    | Heard
    | Closed
    | Forked
    | NotForked
    | Reaped
    | Printed
    | StreamRead
    | StreamWrote
    | StreamBroken
    | StreamFailed
    | ReadAll
    | NoServer
    | Leave
    | Tick
)
