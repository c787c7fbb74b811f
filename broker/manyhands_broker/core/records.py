"""What the journal holds: facts about durable jobs, in the order in which they became true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manyhands_shared.messages import Function, ResultGroup
from manyhands_shared.serial import Payload


@dataclass(frozen=True, slots=True)
class FunctionKept:
    """A function that a durable job needs."""

    function: Function


@dataclass(frozen=True, slots=True)
class JobOpened:
    """A durable job exists. `submitted` is in Unix seconds."""

    job: str
    function: bytes
    options: dict[str, Any]
    submitted: float
    owner: str


@dataclass(frozen=True, slots=True)
class TasksTaken:
    """Tasks `first`, `first + 1`, … of a job, with their payloads."""

    job: str
    first: int
    bodies: list[Payload]


@dataclass(frozen=True, slots=True)
class JobClosed:
    """No more tasks will come."""

    job: str


@dataclass(frozen=True, slots=True)
class TasksEnded:
    """Tasks that have ended, with their results."""

    group: ResultGroup


@dataclass(frozen=True, slots=True)
class AttemptsStale:
    """Results of attempts below `floor` of these tasks no longer count."""

    job: str
    indices: list[int]
    floor: int


@dataclass(frozen=True, slots=True)
class JobMarked:
    """A lasting wish about a job: ``paused``, ``resumed``, ``cancelled``."""

    job: str
    mark: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job is over; `summary` is what `manyhands jobs` shows of it."""

    job: str
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobForgotten:
    """A job and all its results are to be deleted."""

    job: str


Record = (
    FunctionKept
    | JobOpened
    | TasksTaken
    | JobClosed
    | TasksEnded
    | AttemptsStale
    | JobMarked
    | JobEnded
    | JobForgotten
)
