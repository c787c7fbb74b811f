"""What the scheduler wants done, in this order. But the journal's commit precedes all sends."""

from __future__ import annotations

from manyhands_broker.core.model.machine import Machine
from manyhands_broker.core.records import Record
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record


@record
class Send:
    """Send a message over a link. If the link is gone, say so with `LinkClosed`."""

    peer: bytes
    message: Message


@record
class Forget:
    """Nothing will be sent to this link again: drop what waits for it."""

    peer: bytes


@record
class Persist:
    """Journal this. Everything is committed once for the whole drain, before anything is sent."""

    record: Record


@record
class ExpectHeartbeats:
    """Expect signed heartbeats of this node, on such a machine, in this row of the last-seen table."""

    row: int
    boot_id: bytes
    key: bytes
    machine: Machine


@record
class ForgetHeartbeats:
    """Free a row of the last-seen table."""

    row: int


@record
class Say:
    """Tell the operator. `level` is a `logging` level; `job` and `node`: what it is about."""

    level: int
    text: str
    job: str = ""
    node: str = ""


Effect = Send | Forget | Persist | ExpectHeartbeats | ForgetHeartbeats | Say
