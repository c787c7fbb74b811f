"""What can happen to the scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manyhands_broker.core.access import ANYBODY, Identity
from manyhands_shared.messages import Message


@dataclass(frozen=True, slots=True)
class Received:
    """A valid message came over the link `peer` (the routing id of one socket's life).

    `who` sent it, as the transport has authenticated it.
    """

    peer: bytes
    message: Message
    who: Identity = ANYBODY


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
class Pressed:
    """The machine of the node in this row of the last-seen table is under another `pressure` now."""

    row: int
    boot_id: bytes
    level: str


@dataclass(frozen=True, slots=True)
class Stalled:
    """The broker itself did not run for `seconds`: nobody else is to blame for that time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KeysChanged:
    """Keys were allowed or revoked: those in `known`, by public key, are let in, and no others."""

    known: Mapping[str, Identity]


Event = Received | Drained | LinkClosed | Suspected | Calmed | Pressed | Stalled | KeysChanged
