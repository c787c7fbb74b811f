"""The states of a task, and every move between them.

========== ===================================================================================
state       meaning
========== ===================================================================================
QUEUED      the broker has it; no node does
ASSIGNED    a node has it, under the task's present attempt number; where it runs twice
            (`state.twins`), another node has it too, under another number
DONE        it returned a value
FAILED      it ended in any other way; no further attempt
CANCELLED   it was cancelled before it ended
========== ===================================================================================

DONE, FAILED and CANCELLED are terminal: nothing leads out of them, whatever arrives.
"""

from __future__ import annotations

from enum import IntEnum

from manyhands_shared.protocol.status import Status


class TaskState(IntEnum):
    """One byte a task."""

    QUEUED = 0
    ASSIGNED = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


#: state → the states it may move to, and by what.
MOVES: dict[TaskState, dict[TaskState, str]] = {
    TaskState.QUEUED: {
        TaskState.ASSIGNED: "given to a node, attempt + 1",
        TaskState.CANCELLED: "cancelled by its client, or its client is gone",
        TaskState.FAILED: "its job's deadline has passed, or it may have run and must not run again",
        TaskState.DONE: "read back from the journal as having ended; so are failed and cancelled ones",
    },
    TaskState.ASSIGNED: {
        TaskState.QUEUED: "returned, its node condemned, or its child died and it may run again",
        TaskState.DONE: "its node reported a result",
        TaskState.FAILED: "its node reported a failure, it ended too many children or nodes, or its "
        "job's deadline passed",
        TaskState.CANCELLED: "cancelled, and its node said that it stopped",
    },
    TaskState.DONE: {},
    TaskState.FAILED: {},
    TaskState.CANCELLED: {},
}

TERMINAL = frozenset(state for state, moves in MOVES.items() if not moves)

#: The state of a task that has ended with a status; with any other, FAILED.
_ENDS: dict[int, TaskState] = {
    Status.OK: TaskState.DONE,
    Status.CANCELLED: TaskState.CANCELLED,
}


def ended_as(status: int) -> TaskState:
    """Return the terminal state of a task that has ended with `status`."""
    return _ENDS.get(status, TaskState.FAILED)
