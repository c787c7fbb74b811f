"""Opening a link, and what keeps it alive or ends it."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import (
    U32,
    U64,
    Count,
    Id16,
    Info,
    Interval,
    Key32,
    Name,
    Port,
    Reason,
    Row,
    Seq,
    Size,
    Slots,
    Switch,
    Word,
)
from manyhands_shared.protocol.messages.groups import Spans
from manyhands_shared.protocol.record import record


@record
class ClientHello:
    """Opens or resumes a session. `session` is the client's secret token."""

    NUMBER: ClassVar[int] = 1
    protocol: U32
    session: Id16
    name: Name
    last_seq: Seq
    limit: U32
    info: Info


@record
class WorkerHello:
    """Announces a node on a new link, with every attempt it still holds."""

    NUMBER: ClassVar[int] = 2
    protocol: U32
    node: Name
    boot_id: Id16
    slots: Slots
    window: Count
    holding: Spans
    info: Info


@record
class ClientWelcome:
    """The session is open. `resumed` is false if the broker did not know it."""

    NUMBER: ClassVar[int] = 3
    protocol: U32
    broker: Id16
    resumed: Switch
    window_tasks: Size
    window_bytes: Size
    ping_interval: Interval


@record
class WorkerWelcome:
    """The node is in. It keeps the attempts in `keep` and drops every other it holds."""

    NUMBER: ClassVar[int] = 4
    protocol: U32
    broker: Id16
    lease: Interval
    renew_interval: Interval
    beat_port: Port
    beat_row: Row
    beat_key: Key32
    beat_interval: Interval
    keep: Spans
    hash_seed: U32


@record
class Refused:
    """The broker will not serve this peer, or this request; for a person to read."""

    NUMBER: ClassVar[int] = 5
    code: Word
    reason: Reason


@record
class Who:
    """The broker does not know the sender: say hello (again)."""

    NUMBER: ClassVar[int] = 6
    broker: Id16


@record
class Bye:
    """The sender leaves for good."""

    NUMBER: ClassVar[int] = 7
    reason: Reason


@record
class Ping:
    """Answer with `Pong`."""

    NUMBER: ClassVar[int] = 8
    counter: U64


@record
class Pong:
    """The answer to `Ping`."""

    NUMBER: ClassVar[int] = 9
    counter: U64


@record
class Renew:
    """Extends the node's lease. `window` is how many tasks it will hold at once (0: none new).

    `lent` are all its tasks that wait for tasks: what these take counts as free meanwhile.
    """

    NUMBER: ClassVar[int] = 32
    counter: U64
    slots: Slots
    window: Count
    lent: Spans


@record
class Lease:
    """The lease is extended, from the sending of the `Renew` with this counter."""

    NUMBER: ClassVar[int] = 33
    counter: U64


@record
class Drain:
    """Take nothing new, finish or give back what there is, say `Bye`."""

    NUMBER: ClassVar[int] = 35
    reason: Reason
