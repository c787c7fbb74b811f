"""What the core of a host agent wants done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import Start
from manyhands_shared.protocol.record import record
from manyhands_worker.agent.core.events import ReadAll


@record
class Send:
    """Send a message to the broker."""

    message: Message


@record
class Tell:
    """Send a message over a channel, with descriptors, which stay open."""

    channel: int
    message: Message
    descriptors: Sequence[int] = field(default_factory=tuple)


@record
class Connect:
    """Make two ends of a connection: one for a channel, with a message, one for what listens.

    If nothing listens any more, the channel gets `refusal`.
    """

    channel: int
    message: Message
    refusal: Message
    listener: int


@record
class MakeEnd:
    """Make an end of a stream for a member: it is sent over a channel with a message."""

    stream: bytes
    way: int
    member: bytes
    channel: int
    message: Message


@record
class Attach:
    """Take a descriptor as the end of a stream. `way` is what its other owner does with it.

    With `copy` the descriptor stays as it is; of one that listens the stream gets a new connection.
    """

    stream: bytes
    descriptor: int
    way: int
    copy: bool


@record
class AllowReading:
    """Read more bytes from the end of a stream."""

    stream: bytes
    count: int


@record
class StopReading:
    """Read no more from the end of a stream: what writes to it is told so."""

    stream: bytes


@record
class Write:
    """Write to the end of a stream."""

    stream: bytes
    data: bytes


@record
class EndWriting:
    """When all is written, let what reads find the end of the stream."""

    stream: bytes


@record
class CloseStream:
    """When all is written, close the end of a stream."""

    stream: bytes


@record
class Fork:
    """Make the process of a member, and send it `start` over its own channel, with `descriptors`.

    `streams` are its standard output and error; without them it has pipes, which the agent reads.
    """

    member: bytes
    channel: int
    start: Start
    streams: tuple[int, int] | None
    descriptors: Sequence[int] = field(default_factory=tuple)


@record
class Kill:
    """Send a member's process a signal."""

    member: bytes
    number: int


@record
class Orphan:
    """Tell a member that its parent has ended."""

    member: bytes


@record
class Hush:
    """Read nothing from a member until `Listen`: its output waits for the root."""

    member: bytes


@record
class Listen:
    """Read from a member again."""

    member: bytes


@record
class ReadOut:
    """Read all that a member has written and said by now; then `then` happens."""

    member: bytes
    channel: int | None
    then: ReadAll


@record
class Guard:
    """Have members stopped whose root is elsewhere, if no later word comes by `until`.

    It holds also where this process stands still.
    """

    until: float


@record
class Drop:
    """Close a channel."""

    channel: int


@record
class CloseDescriptors:
    """Close descriptors that came over a channel."""

    descriptors: Sequence[int]


@record
class Reconnect:
    """Give up the link to the broker and make another."""


@record
class Log:
    """Write to the log."""

    level: int
    text: str


@record
class Stop:
    """End this process."""

    code: int
    text: str


#: What is done to members' processes.
ToMember = Fork | Kill | Orphan | Hush | Listen | ReadOut | Guard
#: What is done to the ends of streams here.
ToStream = (
    Connect | MakeEnd | Attach | AllowReading | StopReading | Write | EndWriting | CloseStream
)
Effect = ToMember | ToStream | Send | Tell | Drop | CloseDescriptors | Reconnect | Log | Stop
