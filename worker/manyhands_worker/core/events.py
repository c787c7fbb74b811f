"""What the core of a node is told.

Events come from three sides: the link (`LinkUp`, `LinkLost`, `Received`), the pool (`Finished`,
`Printed`, `Claimed`, `Died`, `Born`, `Trouble`), and the process itself (`Leave`, `Tick`). Effects go to
the same three. A simulator can stand on the other side as well as the real thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import NamedTuple

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record
from manyhands_worker.core.model import Block, HeldResult, Key


@record
class LinkUp:
    """A new link to the broker is established."""


@record
class LinkLost:
    """The link is gone; `LinkUp` follows some time."""

    reason: str


@record
class Received:
    """A valid message came from the broker."""

    message: Message


@record
class EnvironmentMade:
    """The environment for these requirements is there; or it cannot be made, for `reason`."""

    environment: bytes
    reason: str = ""


@record
class Finished:
    """A slot reports tasks with serials from `first` on, in order.

    `statuses` are those of the protocol, or `child_status.REVOKED`. `nbytes` and `frames` are what the
    bodies weigh; `blocks` hold some of them. For each status `HELD` there is one of the `held_results`.
    Where a task was revoked for a value has not come, its body is the value's key and its owner's name.
    `worn`: what a task has done to the child, which is to be replaced; then there may be no tasks.
    `run`: when the first of them began (monotonic), the CPU seconds of all, and the child's peak in KiB.
    """

    slot: int
    first: int
    statuses: bytes
    bodies: list[Payload]
    seconds: float
    nbytes: int
    frames: int = 0
    blocks: list[Block] = field(default_factory=list)
    held_results: Sequence[HeldResult] = ()
    worn: str = ""
    run: tuple[float, float, int] | None = None


@record
class Claimed:
    """The answer to `Revoke`: what is above serial `claim` has not been started and never will be."""

    slot: int
    claim: int


@record
class Died:
    """The child of a slot is dead.

    It was running the task `blamed` (0: none) and had claimed up to `claim`. `asked`: on a `Kill`.
    `timeout`: the blamed task ran longer than this, in seconds, and the pool killed it for that.
    `last_words`: the end of what that task printed, where that is captured. `memory`: the bytes that the
    blamed task might have and what it had, if the pool killed it for that. `ran`: when the blamed task
    began (monotonic), and what its process weighed when last looked at, in KiB.
    """

    slot: int
    claim: int
    blamed: int
    text: str
    asked: bool = False
    timeout: float = 0.0
    last_words: str = ""
    memory: tuple[int, int] = (0, 0)
    ran: tuple[float, int] | None = None


@record
class Printed:
    """The task with this serial, or its job, has printed something; it is not reported yet.

    `stream` is 1 or 2, or 0 for what goes into the journal.
    """

    slot: int
    serial: int
    stream: int
    text: str


@record
class Lends:
    """The task in a slot waits for tasks, or does so no more: the slot may be lent.

    `serial` is that of the task that waits. It comes again if another one of the slot waits as well.
    """

    slot: int
    on: bool
    serial: int = 0


@record
class Born:
    """A slot has a fresh child; it may be given tasks."""

    slot: int


@record
class Unable:
    """No child can be started, and none is there; `text` says why. `Able` follows if that ends."""

    text: str


@record
class Able:
    """A child is ready for work again."""


@record
class Trouble:
    """The pool or the heartbeat ran into something that people should know."""

    kind: str
    text: str


@record
class AgentDied:
    """The host agent has ended (`agent`), or could not be started (zeros)."""

    agent: bytes
    reason: str


@record
class Wanted:
    """A child needs a stored value that cannot be borrowed on this host; `owner` keeps it."""

    key: bytes
    owner: bytes


@record
class Arrived:
    """A stored value is here for children to borrow, or is known never to be."""

    key: bytes


@record
class Inspected:
    """What was found of children, for the broker that asked."""

    answer: messages.Inspected


class RunningTask(NamedTuple):
    """A task that runs: job and attempt, index, slot, when it began (monotonic), KiB of memory."""

    key: Key
    task: int
    slot: int
    begun: float
    peak: int


@record
class Running:
    """What runs just now and has done so for a while, where that has changed."""

    tasks: list[RunningTask]


@record
class Leave:
    """Drain and stop; with `now`, stop at once."""

    reason: str
    now: bool = False


@record
class Tick:
    """Everything that was to be read has been handled: decide, and send what is due."""


Event = (
    LinkUp
    | LinkLost
    | Received
    | EnvironmentMade
    | Finished
    | Printed
    | Claimed
    | Died
    | Lends
    | Born
    | Trouble
    | AgentDied
    | Unable
    | Able
    | Wanted
    | Arrived
    | Inspected
    | Running
    | Leave
    | Tick
)
