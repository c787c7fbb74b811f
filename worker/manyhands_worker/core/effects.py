"""What the core of a node wants done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record
from manyhands_worker.core.model import Batch, Block, HeldResult


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
class Open:
    """Give a spare slot a child; `Born` follows."""

    slot: int


@record
class Close:
    """End the child of a spare slot, which has nothing left to do."""

    slot: int


@record
class Free:
    """The results in these blocks, or held for a client, need not be kept any more."""

    blocks: Sequence[Block | HeldResult]


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
class Inspect:
    """Look at what children do, as the broker asks; `Inspected` follows."""

    order: messages.Inspect


@record
class MakeEnvironment:
    """Make an environment where these requirements are installed; `EnvironmentMade` follows.

    Of those that there are, the node needs `keep`, and others no more.
    """

    environment: bytes
    requirements: tuple[str, ...]
    keep: frozenset[bytes]


@record
class StartAgent:
    """Start the host agent, unless it runs."""


@record
class PassOn:
    """The host has another node's agent: pass on to it what connects here."""

    address: str


@record
class Stop:
    """Leave, with this exit code. `text` says why if that is not plain."""

    code: int
    text: str = ""


Effect = (
    Send
    | Reconnect
    | Beat
    | Start
    | Revoke
    | Kill
    | Retire
    | Open
    | Close
    | Free
    | Supply
    | Log
    | Inspect
    | MakeEnvironment
    | StartAgent
    | PassOn
    | Stop
)
