"""What members ask of objects that processes share, and what the keeper answers."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import (
    U32,
    U64,
    AnyBodies,
    AnyIndices,
    Data,
    Id16,
    Size,
    Switch,
)
from manyhands_shared.protocol.record import record


@record
class Request:
    """An operation on an object. `number` counts the member's requests; with `quiet` it has no answer.

    `settled` is the request whose answer the member received last, 0 before the first: it has what
    the broker had sent it before that one.
    """

    NUMBER: ClassVar[int] = 77
    member: Id16
    number: U64
    settled: U64
    key: Id16
    operation: U32
    quiet: Switch
    arguments: Data
    bodies: AnyBodies


@record
class Response:
    """The answer to a request. `epoch` is the object's: it rises with each holder that was lost."""

    NUMBER: ClassVar[int] = 78
    member: Id16
    number: U64
    outcome: U32
    epoch: U64
    arguments: Data
    bodies: AnyBodies


@record
class Withdraw:
    """The member has given up a request: it waits no more, and what it was granted is given back."""

    NUMBER: ClassVar[int] = 79
    member: Id16
    number: U64
    key: Id16


@record
class RecallLock:
    """The member's lock, delegated with its request `number`, is wanted: `LockReturned` answers."""

    NUMBER: ClassVar[int] = 80
    member: Id16
    key: Id16
    number: U64


@record
class LockReturned:
    """A lock is not delegated any more. With `held` the member has it, else it is free.

    `thread` is the one that has it, 0 where that is not known.
    """

    NUMBER: ClassVar[int] = 81
    member: Id16
    key: Id16
    number: U64
    held: Switch
    thread: U64


@record
class LockWords:
    """A member has memory for delegated locks, whose descriptor comes along.

    Runs on member channels alone. Each slot has two words of 8 bytes: the thread that has the lock, and
    whether it was called back.
    """

    NUMBER: ClassVar[int] = 82
    member: Id16
    size: Size


@record
class ItemsTaken:
    """The member has the items that came with the answers to these requests."""

    NUMBER: ClassVar[int] = 84
    member: Id16
    numbers: AnyIndices
