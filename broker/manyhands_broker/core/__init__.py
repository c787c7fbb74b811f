"""The pure scheduler. `Core.handle(event, now)` returns effects; see `scheduler` for the theory."""

from manyhands_broker.core.effects import (
    Effect,
    ExpectHeartbeats,
    Forget,
    ForgetHeartbeats,
    Persist,
    Say,
    Send,
)
from manyhands_broker.core.events import (
    Calmed,
    Drained,
    Event,
    KeysChanged,
    LinkClosed,
    Pressed,
    Received,
    Stalled,
    Suspected,
    Unwritable,
)
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.core.scheduler import Core

__all__ = [
    "ANYBODY",
    "Calmed",
    "Core",
    "Drained",
    "Effect",
    "Event",
    "ExpectHeartbeats",
    "Forget",
    "ForgetHeartbeats",
    "Identity",
    "KeysChanged",
    "Limits",
    "LinkClosed",
    "Persist",
    "Pressed",
    "Received",
    "Say",
    "Send",
    "Stalled",
    "Suspected",
    "Unwritable",
]
