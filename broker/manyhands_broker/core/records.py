"""What the journal has: facts about durable jobs, in the order in which they became true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Function, ResultGroup
from manyhands_shared.protocol.record import record


@record
class FunctionStored:
    """A function that a durable job needs."""

    function: Function


@record
class JobOpened:
    """A durable job exists. `submitted` is in Unix seconds.

    Tasks below `first` are not here: they had ended in an earlier life of the broker.
    """

    job: str
    function: bytes
    options: dict[str, Any]
    submitted: float
    owner: str
    first: int = 0


@record
class TasksTaken:
    """Tasks `first`, `first + 1`, … of a job, with their payloads."""

    job: str
    first: int
    bodies: list[Payload]


@record
class JobClosed:
    """No more tasks will come than these `tasks`."""

    job: str
    tasks: int


@record
class TasksEnded:
    """Tasks that have ended, with their results."""

    group: ResultGroup


@record
class TasksStarted:
    """Tasks that may run at most once are about to be given to a node."""

    job: str
    indices: list[int]
    attempt: int


@record
class AttemptsStale:
    """These tasks wait for a node again; results of their attempts below `floor` no longer count."""

    job: str
    indices: list[int]
    floor: int


@record
class TaskTried:
    """A task was given another run `tries` times, and `story` has a line for each process it ended."""

    job: str
    index: int
    tries: int
    story: tuple[str, ...]


@record
class JobMarked:
    """A lasting wish about a job: ``paused``, ``resumed``, ``cancelled``."""

    job: str
    mark: str


@record
class TaskPrinted:
    """What a task wrote to its standard streams."""

    job: str
    attempt: int
    index: int
    text: str


@record
class JobEnded:
    """A job is over; `summary` is what `manyhands jobs` shows of it."""

    job: str
    summary: dict[str, Any]


@record
class JobRemembered:
    """What people are told of how a job went; its tasks and results are elsewhere."""

    job: str
    history: dict[str, Any]


@record
class JobForgotten:
    """A job and all its results are to be deleted."""

    job: str


Record = (
    FunctionStored
    | JobOpened
    | TasksTaken
    | JobClosed
    | TasksEnded
    | TasksStarted
    | AttemptsStale
    | TaskTried
    | JobMarked
    | TaskPrinted
    | JobEnded
    | JobRemembered
    | JobForgotten
)


@dataclass(slots=True)
class StoredJob:
    """A durable job as the journal has it."""

    id: str
    function: bytes
    options: dict[str, Any]
    submitted: float
    owner: str
    #: The tasks whose payloads are here, as rising ranges [first, stop). The others below `total` were
    #: never taken: they had ended in an earlier life of the broker.
    taken: list[tuple[int, int]] = field(default_factory=list)
    closed: bool = False
    marks: set[str] = field(default_factory=set)
    #: Tasks that have ended: index → status.
    ended: dict[int, int] = field(default_factory=dict)
    #: Index → the lowest attempt number that still counts, where that is above 1.
    floors: dict[int, int] = field(default_factory=dict)
    #: Tasks of an at-most-once job that a node has had and not given back unstarted.
    started: set[int] = field(default_factory=set)
    #: Index → how often the task was given another run; and a line for each process that it ended.
    tries: dict[int, int] = field(default_factory=dict)
    stories: dict[int, tuple[str, ...]] = field(default_factory=dict)
    #: Set once the job is over.
    summary: dict[str, Any] | None = None
    #: What of its record cannot be read, in a sentence; empty if all can.
    damage: str = ""

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return self.taken[-1][1] if self.taken else 0

    def take(self, first: int, stop: int) -> None:
        """Add tasks, behind all others."""
        if self.taken and self.taken[-1][1] == first:
            self.taken[-1] = (self.taken[-1][0], stop)
        else:
            self.taken.append((first, stop))
