"""How a task ended. A module of its own, for pool children need nothing else of the messages."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a task ended. The body of an `OK` is its result, of a `HELD` a ticket, else a failure."""

    OK = 0
    RAISED = 1
    CRASHED = 2
    TIMED_OUT = 3
    CANCELLED = 4
    LOST = 5
    UNSENDABLE = 6
    #: Not the end yet: the result is kept by the node for the client to fetch (see `held_result`).
    HELD = 7
    #: From a node: the task has not begun, for a result that it has for an input is gone. The body names
    #: the segment in which that was held.
    INPUT_GONE = 8
