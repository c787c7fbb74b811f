"""What the rules of all kinds have in common: requests that wait, and answers.

A request is named by its member and its number. The rules know no clock: their caller says when
the deadline of a waiting request has passed, with `expire`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from manyhands_shared.coordination.kinds import MAX_SECONDS, Kind, Operation, Outcome
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.record import record

#: A request: the id of the member and the member's number for it.
Op = tuple[bytes, int]


class InvariantError(AssertionError):
    """The state of an object is one that the rules never lead to."""


@record
class Asked:
    """A request: what to do, and what was put."""

    op: Op
    operation: Operation
    arguments: Any = ()
    bodies: tuple[Payload, ...] = ()


@record
class Answer:
    """How a request ended."""

    op: Op
    outcome: Outcome
    arguments: tuple[Any, ...] = ()
    bodies: tuple[Payload, ...] = ()


Answers = list[Answer]


@dataclass(slots=True)
class Waiter:
    """A request that waits.

    Attributes:
        order: its place among all that wait at the object.
        operation: what it asked.
        since: when it was asked.
        deadline: when its time is over; `None` is never.
        detail: what its kind must know besides; plain values.
    """

    order: int
    operation: Operation
    since: float
    deadline: float | None
    detail: tuple[Any, ...] = ()


@dataclass(slots=True)
class Changes:
    """What an object's records must be written again for."""

    state: bool = False
    waiters: dict[Op, None] = field(default_factory=dict)
    items: dict[int, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.state or bool(self.waiters) or bool(self.items)


class SyncObject(ABC):
    """The state of one object and its transitions.

    Every method that changes it returns the answers that this gives, in order, and notes in `changes`
    what has changed. `state()` and `Waiter`s are plain values, from which `restore` makes it again.
    """

    kind: ClassVar[Kind]
    #: Bytes of the items in it.
    item_bytes: int = 0
    __slots__ = ("changes", "next_order", "recall")

    def __init__(self) -> None:
        self.next_order = 0
        self.changes = Changes()
        #: The request whose process is to be asked for a delegated lock, until the caller does that.
        self.recall: Op | None = None

    @abstractmethod
    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation of this kind; without an answer of its own in the result, it waits.

        The arguments have passed `are_arguments`.
        """

    @abstractmethod
    def waiting(self) -> dict[Op, Waiter]:
        """Return all requests that wait."""

    @abstractmethod
    def find(self, op: Op) -> Waiter | None:
        """Return a request that waits; `None` if it does not."""

    @abstractmethod
    def withdraw(self, op: Op) -> Answers:
        """Take out a request that waits; its asker has given up or is dead."""

    def undo(self, answer: Answer) -> Answers:
        """Undo what an answer has granted: its asker has given up meanwhile."""
        del answer
        return []

    def expire(self, op: Op) -> Answers:
        """End the wait of `op`, whose deadline has passed."""
        return [*self.withdraw(op), Answer(op, Outcome.NO)]

    @abstractmethod
    def state(self) -> list[Any]:
        """Return all but waiting requests and items, as plain values."""

    @abstractmethod
    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what `state()` and `waiting()` said."""

    @abstractmethod
    def validate(self) -> None:
        """Check every invariant.

        Raises:
            InvariantError: one is broken.
        """

    @property
    def epoch(self) -> int:
        """How often it was taken from a dead holder, times two; a lock's fence."""
        return 0

    @property
    def owner(self) -> bytes | None:
        """The member that holds a lock, or leads a barrier: its death is told to the rules."""
        return None

    def wait(
        self, op: Op, operation: Operation, seconds: float | None, now: float, *detail: Any
    ) -> Waiter:
        """Return a request that waits behind all others, its deadline set."""
        deadline = None if seconds is None or seconds > MAX_SECONDS else now + seconds
        waiter = Waiter(self.take_order(), operation, now, deadline, detail)
        self.changes.waiters[op] = None
        return waiter

    def take_order(self) -> int:
        """Return the next place."""
        self.next_order += 1
        self.changes.state = True
        return self.next_order


def ensure(condition: bool, text: str) -> None:
    """Raise `InvariantError(text)` unless the condition holds."""
    if not condition:
        raise InvariantError(text)


def in_order(waiting: dict[Op, Waiter]) -> bool:
    """Return whether requests wait in order of their places."""
    places = [waiter.order for waiter in waiting.values()]
    return places == sorted(places)
