"""Kinds of synchronisation objects, what members ask of them, and what they are answered.

A member asks with `Request(key, operation, arguments)`; the keeper of the object, at present always the
broker, answers with `Response(outcome, arguments)`. `ARGUMENTS` says what each operation takes.
"""

from __future__ import annotations

from enum import IntEnum
from math import isfinite
from typing import Any

#: Bytes of an object's key and of a member's id.
KEY_BYTES = 16
#: The highest value of a semaphore: what the standard library calls `SEM_VALUE_MAX`.
MAX_VALUE = (1 << 31) - 1
#: Parties of one barrier.
MAX_PARTIES = 1 << 20
#: Characters of the place where an object was made.
MADE_CHARS = 200
#: Bytes of one queue's items that the broker holds; a `put` that is answered waits for room.
MAX_QUEUE_BYTES = 64 << 20
#: The longest wait in seconds that has a deadline; what is longer has none.
MAX_SECONDS = 1e9
_MOST_SIGNAL = 64


class Kind(IntEnum):
    """Kinds of objects. A condition lives in the object of its lock, and an RLock is a lock."""

    LOCK = 1
    SEMAPHORE = 2
    EVENT = 3
    BARRIER = 4
    QUEUE = 5


class Operation(IntEnum):
    """What a member asks of an object."""

    ACQUIRE = 1
    RELEASE = 2
    VALUE = 3
    SET = 4
    CLEAR = 5
    WAIT = 6
    SLEEP = 7
    NOTIFY = 8
    ARRIVE = 9
    OPEN = 10
    BREAK = 11
    RESET = 12
    LOOK = 13
    PUT = 14
    GET = 15
    SIZE = 16
    DONE = 17
    JOIN = 18
    SYNC = 19
    CREATE = 20
    DISCARD = 21
    SLEEPERS = 22
    NAME = 23
    FIND = 24
    UNNAME = 25
    DELEGATE = 26
    RETURN = 27
    SIGNAL = 28


class Outcome(IntEnum):
    """How a request ended."""

    OK = 0
    #: Not now: the caller did not want to wait, or its time was over.
    NO = 1
    #: Released, or said to be done, more often than it was taken.
    TOO_MANY = 2
    #: The last of a barrier has arrived: it runs the action and says `OPEN` or `BREAK`.
    LEAD = 3
    #: The barrier is broken.
    BROKEN = 4
    #: The object was lost with its keeper or its host.
    GONE = 5
    #: There is no object of this key in this program.
    NONE = 6
    #: The program has as many objects, or as many bytes, as it may have.
    NO_ROOM = 7
    #: The object's kind has no such operation, or not with these arguments.
    MALFORMED = 8
    #: The lock is delegated to another process, which is asked for it: ask again.
    AGAIN = 9


#: What each kind can be asked.
OPERATIONS: dict[Kind, frozenset[Operation]] = {
    Kind.LOCK: frozenset(
        {
            Operation.ACQUIRE,
            Operation.RELEASE,
            Operation.VALUE,
            Operation.SLEEP,
            Operation.NOTIFY,
            Operation.SLEEPERS,
            Operation.DELEGATE,
            Operation.RETURN,
        }
    ),
    Kind.SEMAPHORE: frozenset({Operation.ACQUIRE, Operation.RELEASE, Operation.VALUE}),
    Kind.EVENT: frozenset({Operation.SET, Operation.CLEAR, Operation.WAIT}),
    Kind.BARRIER: frozenset(
        {Operation.ARRIVE, Operation.OPEN, Operation.BREAK, Operation.RESET, Operation.LOOK}
    ),
    Kind.QUEUE: frozenset(
        {
            Operation.PUT,
            Operation.GET,
            Operation.SIZE,
            Operation.DONE,
            Operation.JOIN,
            Operation.WAIT,
        }
    ),
}

#: What is asked of a name of shared memory.
NAMES = frozenset({Operation.NAME, Operation.FIND, Operation.UNNAME})

#: What carries the asker's earlier writes to others, and what brings others' writes to the asker.
RELEASES = frozenset(
    {
        Operation.RELEASE,
        Operation.SET,
        Operation.SLEEP,
        Operation.NOTIFY,
        Operation.ARRIVE,
        Operation.OPEN,
        Operation.BREAK,
        Operation.RESET,
        Operation.PUT,
        Operation.DONE,
        Operation.SYNC,
        Operation.RETURN,
    }
)
ACQUIRES = frozenset(
    {
        Operation.ACQUIRE,
        Operation.VALUE,
        Operation.WAIT,
        Operation.SLEEP,
        Operation.ARRIVE,
        Operation.LOOK,
        Operation.GET,
        Operation.SIZE,
        Operation.JOIN,
        Operation.SYNC,
        Operation.SLEEPERS,
        Operation.DELEGATE,
    }
)


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_seconds(value: Any) -> bool:
    """Whether it is a time to wait; `None` is for ever."""
    return value is None or (type(value) in (float, int) and value >= 0 and isfinite(value))


def _is_signal(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST_SIGNAL


def _is_key(value: Any) -> bool:
    return type(value) is bytes and len(value) == KEY_BYTES


def _is_made(value: Any) -> bool:
    return type(value) is str and len(value) <= MADE_CHARS


def _is_name(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= MADE_CHARS


def _are_facts(value: Any) -> bool:
    return type(value) is list and len(value) <= 4 and all(map(_is_count, value))


#: What each operation takes, in order: the checks of its arguments.
ARGUMENTS: dict[Operation, tuple[Any, ...]] = {
    # Whether to wait, for how many seconds, which thread asks.
    Operation.ACQUIRE: (_is_flag, _is_seconds, _is_count),
    Operation.RELEASE: (),
    Operation.VALUE: (),
    Operation.SET: (),
    Operation.CLEAR: (),
    Operation.WAIT: (_is_flag, _is_seconds),
    # The number of the request that took the lock, the condition, seconds, which thread asks.
    Operation.SLEEP: (_is_count, _is_key, _is_seconds, _is_count),
    # The condition; how many sleepers (0: all).
    Operation.NOTIFY: (_is_key, _is_count),
    # Seconds; whether there is an action to run before the barrier opens.
    Operation.ARRIVE: (_is_seconds, _is_flag),
    # The generation that is led.
    Operation.OPEN: (_is_count,),
    Operation.BREAK: (),
    Operation.RESET: (),
    Operation.LOOK: (),
    Operation.PUT: (_is_flag, _is_seconds),
    Operation.GET: (_is_flag, _is_seconds),
    Operation.SIZE: (),
    Operation.DONE: (),
    Operation.JOIN: (_is_seconds,),
    Operation.SYNC: (),
    # The kind, its facts, where it was made.
    Operation.CREATE: (_is_count, _are_facts, _is_made),
    Operation.DISCARD: (),
    # The condition.
    Operation.SLEEPERS: (_is_key,),
    # A name of shared memory; the segment.
    Operation.NAME: (_is_name, _is_key),
    Operation.FIND: (_is_name,),
    Operation.UNNAME: (_is_name,),
    # As `ACQUIRE`; the slot of the lock's words, for the case that it is delegated.
    Operation.DELEGATE: (_is_flag, _is_seconds, _is_count, _is_count),
    # The number of the request that took the lock: it is released if that request has it.
    Operation.RETURN: (_is_count,),
    # To the process that the key names.
    Operation.SIGNAL: (_is_signal,),
}


def are_arguments(operation: Operation, arguments: Any) -> bool:
    """Return whether an operation can be done with these arguments."""
    checks = ARGUMENTS[operation]
    if type(arguments) not in (list, tuple) or len(arguments) != len(checks):
        return False
    # A generator would take twice the time, for each operation.
    for check, value in zip(checks, arguments, strict=True):  # noqa: SIM110
        if not check(value):
            return False
    return True
