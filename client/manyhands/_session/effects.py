"""What the session core has its caller do, in the order given."""

from __future__ import annotations

from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Message, PrintedGroup
from manyhands_shared.protocol.record import record


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
class Numbered:
    """The tasks of an `Append` are `first` and the `count - 1` after it."""

    job: str
    first: int
    count: int


@record
class Deliver:
    """Tasks that have ended, each for the first and only time. A cancelled one's body is moot."""

    job: str
    indices: list[int]
    statuses: bytes
    bodies: list[Payload]


@record
class JobOver:
    """Nothing more comes here of a job that this session has added."""

    job: str


@record
class Fetch:
    """Fetch a result from the node that holds it, as the ticket says; `Fetched` follows."""

    job: str
    attempt: int
    index: int
    ticket: Payload


@record
class Stays:
    """A task has ended well; its result stays with its node until it is asked for."""

    job: str
    index: int


@record
class Supply:
    """A node wants, through the broker, what is kept here under this key: send it as a `Stock`."""

    key: bytes


@record
class Journaled:
    """A closed durable job is in the broker's journal, whole: it needs this session no more."""

    job: str


@record
class TurnedDown:
    """The broker takes no more tasks of a job: those it lacks were delivered, and so are any to come."""

    job: str
    reason: str


@record
class Show:
    """Tasks have printed this, on the node of this name."""

    node: str
    groups: list[PrintedGroup]


@record
class Vanished:
    """The broker has nothing of a job subscribed to: what has not been seen of it never comes."""

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
    Send
    | Relink
    | Opened
    | Numbered
    | Deliver
    | JobOver
    | Fetch
    | Stays
    | Supply
    | Journaled
    | TurnedDown
    | Show
    | Vanished
    | Answered
    | Failed
)
