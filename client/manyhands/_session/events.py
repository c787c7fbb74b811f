"""The states of a session and the events it takes. `effects` has what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Function, Message
from manyhands_shared.protocol.record import record


class State(Enum):
    """Where a session stands; `docs/protocol.md` draws the transitions."""

    CONNECTING = "connecting"
    GREETING = "greeting"
    OPEN = "open"
    FAILED = "failed"
    CLOSED = "closed"


#: What each state may become. `CLOSED` is final, and so is `FAILED` but for being closed.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTING, State.GREETING, State.FAILED, State.CLOSED}),
    State.GREETING: frozenset({State.CONNECTING, State.OPEN, State.FAILED, State.CLOSED}),
    State.OPEN: frozenset({State.CONNECTING, State.GREETING, State.FAILED, State.CLOSED}),
    State.FAILED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


# Events: what the user does ---------------------------------------------------------------------


@record
class AddJob:
    """A new open job without tasks. `options` is what `JobOptions.to_map` gives.

    `subscribe`: whether the results of a durable job are wanted here; those of any other always are.
    `code`: the bundle that the options name; None if there is none, or the broker has it.
    """

    job: str
    function: Function
    options: dict[str, Any]
    subscribe: bool = True
    code: Function | None = None


@record
class Append:
    """More tasks of an open job, numbered on from those it has."""

    job: str
    bodies: list[Payload]


@record
class CloseJob:
    """The job gets no more tasks; it is forgotten when the last one has ended."""

    job: str


@record
class CancelTasks:
    """End these tasks; with `None` end all of them and close the job."""

    job: str
    indices: list[int] | None


@record
class CancelOther:
    """End every task of a job that may belong to another session."""

    job: str


@record
class AskResult:
    """The user waits for a result that may stay with its node, as an input of other tasks."""

    job: str
    index: int


@record
class DropResult:
    """The user has dropped such a result: it is needed by these other tasks alone."""

    job: str
    index: int


@record
class Subscribe:
    """Have the results of a durable job delivered here, those there are and those to come."""

    job: str


@record
class Unsubscribe:
    """No more of them."""

    job: str


@record
class PauseResults:
    """Have the results of a job subscribed to stay with the broker, or go on where that began."""

    job: str
    pause: bool


@record
class Ask:
    """Put a question to the broker; `request` comes back in `Answered`."""

    request: int
    what: str
    arguments: dict[str, Any]


@record
class Close:
    """Leave for good; what is unfinished is given up."""

    reason: str


# Events: what the link and the clock do ---------------------------------------------------------


@record
class LinkUp:
    """The connection stands and has shaken hands."""


@record
class LinkLost:
    """It is gone, and with it perhaps what was sent last."""


@record
class Received:
    """A valid message came in."""

    message: Message


@record
class Fetched:
    """The answer to a `Fetch`; without a payload the node does not give it."""

    job: str
    attempt: int
    index: int
    ticket: Payload
    payload: Payload | None


@record
class Flush:
    """The link can take a message: send what waits, at most one `Submit`."""


@record
class Tick:
    """Time has passed; due at `Session.deadline`."""


Event = (
    AddJob
    | Append
    | CloseJob
    | CancelTasks
    | CancelOther
    | AskResult
    | DropResult
    | Subscribe
    | Unsubscribe
    | PauseResults
    | Ask
    | Close
    | LinkUp
    | LinkLost
    | Received
    | Fetched
    | Flush
    | Tick
)
