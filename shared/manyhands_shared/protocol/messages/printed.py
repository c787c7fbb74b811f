"""What tasks of attached jobs print, on its way to the client's terminal."""

from __future__ import annotations

from typing import Annotated, ClassVar

from manyhands_shared.protocol.bounds import Groups
from manyhands_shared.protocol.messages.fields import (
    U32,
    Attempt,
    Index,
    JobId,
    Lines,
    Name,
    Stream,
)
from manyhands_shared.protocol.record import record


@record
class PrintedGroup:
    """What tasks of a job wrote to a stream, in order; `lost` lines before it were left out.

    `attempt` and `index` are of a task that ran then. Where the job has the option `prefix`, all of it
    is that task's.
    """

    job: JobId
    attempt: Attempt
    index: Index
    stream: Stream
    lost: U32
    text: Lines


PrintedGroups = Annotated[list[PrintedGroup], Groups(PrintedGroup)]


@record
class Printed:
    """Lines for the client's terminal. `node` is the broker's word, empty on the way there."""

    NUMBER: ClassVar[int] = 56
    node: Name
    groups: PrintedGroups
