"""What the core of a node is told, and what it wants done: its whole interface.

Events come from three sides: the link (`LinkUp`, `LinkLost`, `Received`), the pool (`Finished`,
`Printed`, `Claimed`, `Died`, `Born`, `Trouble`), and the process itself (`Leave`,
`Tick`). Effects go to the same three. A simulator can stand on the other side as well as the real thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.labels import PYTHON
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record

#: A job in one attempt.
Key = tuple[str, int]


class Offer(Protocol):
    """A result that is kept to be fetched. It weighs `nbytes`; `ticket` is its body meanwhile."""

    nbytes: int
    ticket: bytes

    def admit(self, guest: str) -> None:
        """The client with this public key (hexadecimal; empty: none) may fetch it from another host."""

    def payload(self) -> tuple[Buffer, ...]:
        """The result itself. Raises OSError or ValueError where it cannot be had."""

    def free(self) -> None:
        """It need not be kept any more."""


class Block(Protocol):
    """Memory that results lie in until the broker has them."""

    def free(self) -> None:
        """Nobody reads from it any more."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a job asks of the node that runs its tasks: the part of its options that is for nodes.

    `timeout` in seconds, 0 for none. `capture`: what its tasks print goes to the broker as well.
    `direct`: large results may be held for the client to fetch, from another host with `fetch_key`.
    `safe`: functions by name, msgpack. `foreign`: its pickles are of another Python.
    """

    tasks_per_child: int = 0
    timeout: float = 0.0
    at_most_once: bool = False
    capture: bool = False
    after: tuple[str, ...] = ()
    direct: bool = False
    safe: bool = False
    foreign: bool = False
    fetch_key: str = ""

    @classmethod
    def of(cls, options: JobOptions) -> Rules:
        """The rules of a job with these options."""
        return cls(
            options.tasks_per_child,
            options.timeout,
            options.at_most_once,
            options.durable,
            options.after,
            options.direct,
            options.safe,
            options.python not in ("", PYTHON),
            options.fetch_key,
        )


NO_RULES = Rules()


@record
class Parents:
    """The results of the jobs that a job comes after: one list for each, in order of index.

    `name` stands for these very results, and the function that takes them, in a child.
    """

    name: bytes
    lists: list[list[Payload]]
    nbytes: int


@dataclass(slots=True)
class Batch:
    """Tasks of one job and attempt, handed to a slot together.

    `code` is the function that the digest `function` stands for; `parents` come before the tasks'
    own arguments. Serials run from `first`. The first `done` tasks have been reported; those with
    serial `taken` and above were taken back unstarted.
    """

    first: int
    key: Key
    function: bytes
    code: Payload
    parents: Parents | None
    rules: Rules
    indices: list[int]
    bodies: list[Payload]
    done: int = 0
    taken: int = 1 << 63


# Events


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
class Finished:
    """A slot reports tasks with serials from `first` on, in order.

    `statuses` are those of the protocol, or `child_status.REVOKED`. `nbytes` and `frames` are what the
    bodies weigh; `blocks` hold some of them. For each status `HELD` there is one of the `offers`.
    Where a task was revoked for a value has not come, its body is the value's key and its owner's name.
    `worn`: what a task has done to the child, which is to be replaced; then there may be no tasks.
    """

    slot: int
    first: int
    statuses: bytes
    bodies: list[Payload]
    seconds: float
    nbytes: int
    frames: int = 0
    blocks: list[Block] = field(default_factory=list)
    offers: Sequence[Offer] = ()
    worn: str = ""


@record
class Claimed:
    """The answer to `Revoke`: what is above serial `claim` has not been started and never will be."""

    slot: int
    claim: int


@record
class Died:
    """The child of a slot is dead.

    It was running the task `blamed` (0: none) and had claimed up to `claim`. `asked`: on a `Kill`.
    `timeout`: the blamed task ran longer than so many seconds, and the pool killed it for that.
    `last_words`: the end of what that task printed, where that is captured.
    """

    slot: int
    claim: int
    blamed: int
    text: str
    asked: bool = False
    timeout: float = 0.0
    last_words: str = ""


@record
class Printed:
    """The task with this serial, not reported yet, has printed something."""

    slot: int
    serial: int
    text: str


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
class Wanted:
    """A child needs a stored value that cannot be borrowed on this host; `owner` keeps it."""

    key: bytes
    owner: bytes


@record
class Arrived:
    """A stored value is here for children to borrow, or is known never to be."""

    key: bytes


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
    | Finished
    | Printed
    | Claimed
    | Died
    | Born
    | Trouble
    | Unable
    | Able
    | Wanted
    | Arrived
    | Leave
    | Tick
)


# Effects


@record
class Send:
    """Send a message over the present link."""

    message: Message


@record
class Reconnect:
    """Give up the present link and make another."""

    reason: str


@record
class Beat:
    """Send heartbeats with these parameters (of `WorkerWelcome`) from now on.

    The first also lets processes be started, with the cluster's seed for `hash(str)`.
    """

    port: int
    row: int
    key: bytes
    interval: float
    hash_seed: int


@record
class Start:
    """Give a batch to a slot."""

    slot: int
    batch: Batch


@record
class Revoke:
    """Have a slot start no task from serial `limit` on, and say `Claimed`."""

    slot: int
    limit: int


@record
class Kill:
    """Kill a slot's child, whatever it does; `Died` follows."""

    slot: int


@record
class Retire:
    """Replace a slot's child, which has nothing left to do; `Born` follows."""

    slot: int


@record
class Free:
    """The results in these blocks, or held for a client, need not be kept any more."""

    blocks: Sequence[Block | Offer]


@record
class Supply:
    """A stored value has come, as the one body; without a body it is gone."""

    key: bytes
    bodies: list[Payload]


@record
class Log:
    """A line for the node's own log. `level` as in `logging`."""

    level: int
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


@record
class Stop:
    """Leave, with this exit code. `text` says why if that is not plain."""

    code: int
    text: str = ""


Effect = Send | Reconnect | Beat | Start | Revoke | Kill | Retire | Free | Supply | Log | Stop
