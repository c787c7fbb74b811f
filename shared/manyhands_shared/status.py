"""How a task ended. A module of its own, for pool children need nothing else of the messages."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a task ended; anything but `OK` comes with a failure payload."""

    OK = 0
    RAISED = 1
    CRASHED = 2
    TIMED_OUT = 3
    CANCELLED = 4
    LOST = 5
    UNSENDABLE = 6
