"""What can happen to the scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.record import record


@record
class Received:
    """A valid message came over the link `peer` (the routing id of one socket's life).

    `who` sent it, as the transport has authenticated it.
    """

    peer: bytes
    message: Message
    who: Identity = ANYBODY


@record
class Drained:
    """Nothing more to read for now: decide who gets what, and send what has gathered.

    The journal is committed before the next event; if it has no room, before the next of this kind.
    """


@record
class Unwritable:
    """In place of `Drained` while the journal has no room: tell readers what it has."""


@record
class LinkClosed:
    """The transport has no connection for `peer` any more; a send to it failed."""

    peer: bytes


@record
class Suspected:
    """The heartbeats of the node in this row of the last-seen table have become unlikely late."""

    row: int
    boot_id: bytes
    phi: float


@record
class Calmed:
    """The heartbeats of a suspected node are back."""

    row: int
    boot_id: bytes


@record
class Pressed:
    """The machine of the node in this row of the last-seen table is under another `pressure` now."""

    row: int
    boot_id: bytes
    level: str


@record
class Stalled:
    """The broker itself did not run for `seconds`: no peer is to blame for that time."""

    seconds: float


@record
class KeysChanged:
    """Keys were allowed or revoked: those in `known`, by public key, are let in, and no others."""

    known: Mapping[str, Identity]


Event = (
    Received
    | Drained
    | Unwritable
    | LinkClosed
    | Suspected
    | Calmed
    | Pressed
    | Stalled
    | KeysChanged
)
