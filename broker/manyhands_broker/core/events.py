"""What can happen to the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands_shared.messages import Message


@dataclass(frozen=True, slots=True)
class Received:
    """A valid message came over the link `peer` (the routing id of one socket's life)."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing more to read for now: decide who gets what, and send what has gathered.

    The journal is committed before the next event; if it has no room, before the next of this kind.
    """


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The transport has no connection for `peer` any more; a send to it failed."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Suspected:
    """The heartbeats of the node in this row of the last-seen table have become unlikely late."""

    row: int
    boot_id: bytes
    phi: float


@dataclass(frozen=True, slots=True)
class Calmed:
    """The heartbeats of a suspected node are back."""

    row: int
    boot_id: bytes


@dataclass(frozen=True, slots=True)
class Stalled:
    """The broker itself did not run for `seconds`: nobody else is to blame for that time."""

    seconds: float


Event = Received | Drained | LinkClosed | Suspected | Calmed | Stalled
