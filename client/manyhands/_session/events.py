"""The vocabulary of the session core: its states, the events it takes, the effects it returns."""

from __future__ import annotations

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


# Events: what the user does ---------------------------------------------------------------------


@record
class AddJob:
    """A new open job without tasks. `options` is what `JobOptions.to_map` gives.

    `watch`: whether the results of a durable job are wanted here; those of any other always are.
    """

    job: str
    function: Function
    options: dict[str, Any]
    watch: bool = True


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
class Watch:
    """Have the results of a durable job delivered here, those there are and those to come."""

    job: str


@record
class Unwatch:
    """No more of them."""

    job: str


@record
class HoldBack:
    """Have the results of a watched job stay with the broker, or go on where that began."""

    job: str
    hold: bool


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
    """The answer to a `Fetch`; without a payload it is not to be had from there."""

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
    | Watch
    | Unwatch
    | HoldBack
    | Ask
    | Close
    | LinkUp
    | LinkLost
    | Received
    | Fetched
    | Flush
    | Tick
)


# Effects ----------------------------------------------------------------------------------------


@record
class Send:
    """Send this message on the present link."""

    message: Message


@record
class Relink:
    """Drop the present link and open another one."""


@record
class Opened:
    """The broker took us in. `resumed` is false if it did not know this session."""

    broker: bytes
    resumed: bool


@record
class Deliver:
    """Tasks that have ended, each for the first and only time. A cancelled one's body is moot."""

    job: str
    indices: list[int]
    statuses: bytes
    bodies: list[Payload]


@record
class Fetch:
    """Fetch a result from the node that holds it, as the ticket says; `Fetched` follows."""

    job: str
    attempt: int
    index: int
    ticket: Payload


@record
class Supply:
    """A node wants, through the broker, what is kept here under this key: send it as a `Stock`."""

    key: bytes


@record
class Kept:
    """A closed durable job is in the broker's journal, whole: it needs this session no more."""

    job: str


@record
class Turned:
    """The broker takes no more tasks of a job: those it lacks were delivered, and so are any to come."""

    job: str
    reason: str


@record
class Vanished:
    """The broker has nothing of a job that was watched: what has not been seen of it never comes."""

    job: str


@record
class Answered:
    """The answer to an `Ask`; `error` is empty if it went well."""

    request: int
    error: str
    data: Any


@record
class Failed:
    """The broker refuses this session; nothing will come of it any more."""

    code: str
    reason: str


Effect = (
    Send | Relink | Opened | Deliver | Fetch | Supply | Kept | Turned | Vanished | Answered | Failed
)
