"""What users ask and order, and what they are told."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import (
    U32,
    U64,
    AnyIndices,
    Arguments,
    Attempt,
    Data,
    Details,
    Index,
    JobId,
    Lines,
    Reason,
    Seconds,
    Word,
)
from manyhands_shared.protocol.messages.groups import RunGroups, RunningGroups, Stacks
from manyhands_shared.protocol.record import record


@record
class Query:
    """A question or an order; see the page on the protocol for each `what`."""

    NUMBER: ClassVar[int] = 48
    request: U64
    what: Word
    arguments: Arguments


@record
class Reply:
    """The answer to a `Query`. `error` is empty if it went well.

    If the asker's key does not allow it, `data` is `DENIED`.
    """

    NUMBER: ClassVar[int] = 49
    request: U64
    error: Reason
    data: Data


@record
class Event:
    """Something that people should know of: a child died, a heartbeat process was restarted."""

    NUMBER: ClassVar[int] = 34
    kind: Word
    text: Reason
    details: Details


@record
class Output:
    """What a task printed, for the log of its durable job."""

    NUMBER: ClassVar[int] = 36
    job: JobId
    attempt: Attempt
    index: Index
    text: Lines


@record
class Ran:
    """When tasks ran on which slot, for people. A sample: nothing depends on it, none is repeated.

    `running` are tasks that run just now, and have done so for a while. They take the place of those
    that the message before told of. What they took is what they have taken so far.
    """

    NUMBER: ClassVar[int] = 45
    groups: RunGroups
    running: RunningGroups


@record
class Inspect:
    """Look at what tasks do: all tasks of the node, those of a `job`, or of it those in `indices`.

    For `seconds` the node looks again and again, and counts equal stacks. With 0 it looks once, at all
    threads of each process.
    """

    NUMBER: ClassVar[int] = 46
    request: U64
    job: Word
    indices: AnyIndices
    seconds: Seconds


@record
class Inspected:
    """The answer to `Inspect`. `left_out`: looks whose stacks had no room in it."""

    NUMBER: ClassVar[int] = 47
    request: U64
    error: Reason
    stacks: Stacks
    left_out: U32
