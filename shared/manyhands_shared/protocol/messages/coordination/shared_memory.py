"""Shared memory of a program: its segments, and what is written to them, between its hosts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from manyhands_shared.protocol.bounds import Bytes, Groups
from manyhands_shared.protocol.messages.fields import (
    U32,
    U64,
    Data,
    Id16,
    MaybeBody,
    OneBody,
    Reason,
    Size,
    Switch,
)
from manyhands_shared.protocol.record import record

#: Places and lengths of what was written.
Ranges = Annotated[bytes, Bytes("ranges", 12, most=65_536)]


@record
class Patch:
    """What was written to a segment: `data` has the bytes of all `ranges`, one behind the other.

    A range is a place (u64) and a number of bytes (u32), both with the lowest byte first.
    """

    segment: Id16
    ranges: Ranges
    data: OneBody


Patches = Annotated[list[Patch], Groups(Patch, most=4_096)]


@record
class Map:
    """A segment of shared memory: made on this host, or, with `size` 0, wanted here.

    `Mapped` answers one that is wanted. `seq` counts what the agent says of the memory of a program; it
    is 0 for one that is wanted.
    """

    NUMBER: ClassVar[int] = 85
    program: Id16
    segment: Id16
    seq: U64
    size: Size
    shape: Data


@record
class Share:
    """Another host wants this segment: the agent sends all of it, and from now on what is written."""

    NUMBER: ClassVar[int] = 86
    segment: Id16


@record
class Write:
    """What was written to the memory of a program.

    From an agent `seq` is its number, and `clock` is 0. To an agent `seq` is the last of its own that
    the broker had, and `clock` that of the program's memory.
    """

    NUMBER: ClassVar[int] = 87
    program: Id16
    seq: U64
    clock: U64
    patches: Patches


@record
class Fetch:
    """The agent wants this part of a segment that was mapped."""

    NUMBER: ClassVar[int] = 89
    segment: Id16
    at: Size
    size: U32


@record
class FetchPart:
    """A part of a segment; without a body all of it is zeros. `last` ends the answer to `Share`."""

    NUMBER: ClassVar[int] = 90
    segment: Id16
    at: Size
    last: Switch
    bodies: MaybeBody


@record
class Unmap:
    """No member on the agent's host has this segment. From the broker: nothing needs it there."""

    NUMBER: ClassVar[int] = 91
    program: Id16
    segment: Id16
    seq: U64


@record
class Pin:
    """The segment stays until the program ends: a process that is not known may open it."""

    NUMBER: ClassVar[int] = 92
    program: Id16
    segment: Id16
    seq: U64


@record
class Mapped:
    """The answer to `Map`: the agent may fetch the segment. With another `outcome` than 0 it may not."""

    NUMBER: ClassVar[int] = 103
    program: Id16
    segment: Id16
    outcome: U32
    size: Size
    shape: Data
    reason: Reason
