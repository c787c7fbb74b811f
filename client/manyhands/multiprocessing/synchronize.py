"""Locks, semaphores, events, conditions and barriers whose processes run on any host.

The classes are the standard library's, with another semaphore in them: `isinstance`, `repr`, errors and
arguments are the same. Their state is kept by the broker; an operation is one round trip there.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import synchronize as _standard
from typing import Any

from manyhands.multiprocessing._objects.semlock import SEM_VALUE_MAX, SemLock
from manyhands.multiprocessing._objects.shared_object import (
    SharedObject,
    State,
    time_limit,
    unpickled,
)
from manyhands_shared.coordination.kinds import KEY_BYTES, MAX_PARTIES, Kind, Operation, Outcome

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class _OverSemLock:
    """A class of the standard library over our semaphore, with the pickling of that."""

    _semlock: SemLock
    _make_methods: Callable[[], None]

    def _set_up(self, value: int, maxvalue: int, label: str) -> None:
        self._adopt(SemLock.made(value, maxvalue, label))

    def _adopt(self, semlock: SemLock) -> None:
        self._semlock = semlock
        self._is_fork_ctx = False
        self._make_methods()

    def __getstate__(self) -> State:
        return self._semlock.pickled()

    def __setstate__(self, state: State) -> None:
        self._adopt(unpickled(SemLock, state))


class _Fenced:
    """What a lock tells beyond the standard library's."""

    _semlock: SemLock

    @property
    def fence(self) -> int:
        """A number that rises when a holder dies: a later holder never has a smaller one."""
        return self._semlock.fence

    @property
    def abandoned(self) -> bool:
        """Whether this process has the lock of a holder that died, until the lock is released."""
        return self._semlock.abandoned


class Lock(_OverSemLock, _Fenced, _standard.Lock):
    """A lock that any process may release, as `multiprocessing.Lock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        del ctx
        self._set_up(1, 1, "Lock")


class RLock(_OverSemLock, _Fenced, _standard.RLock):
    """A lock that its holder may take again, as `multiprocessing.RLock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        del ctx
        self._set_up(1, 1, "RLock")


class Semaphore(_OverSemLock, _standard.Semaphore):
    """A semaphore, as `multiprocessing.Semaphore`."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        del ctx
        self._set_up(value, SEM_VALUE_MAX, "Semaphore")


class BoundedSemaphore(_OverSemLock, _standard.BoundedSemaphore):
    """A semaphore with a highest value, as `multiprocessing.BoundedSemaphore`."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        del ctx
        self._set_up(value, value, "BoundedSemaphore")


class _Sleepers:
    """The counts of sleepers that the standard library's `Condition` has as semaphores."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._semlock = self
        self.get_value = self._get_value = count


class Condition(_standard.Condition):
    """A condition, as `multiprocessing.Condition`. A sleeper that dies holds up no other.

    Args:
        lock: a `Lock` or `RLock` of this module; a new `RLock` if there is none.

    Raises:
        TypeError: the lock is another.
    """

    _lock: Lock | RLock
    _make_methods: Callable[[], None]

    def __init__(self, lock: Lock | RLock | None = None, *, ctx: Any = None) -> None:
        lock = lock or RLock(ctx=ctx)
        if not isinstance(lock, Lock | RLock):
            raise TypeError(
                "a Condition needs a Lock or RLock of manyhands.multiprocessing,"
                f" not a {type(lock).__module__}.{type(lock).__qualname__}"
            )
        self.__setstate__((lock, os.urandom(KEY_BYTES)))

    def __getstate__(self) -> tuple[Lock | RLock, bytes]:
        return self._lock, self._key

    def __setstate__(self, state: tuple[Lock | RLock, bytes]) -> None:
        self._lock, self._key = state
        self._sleeping_count = _Sleepers(self._count_sleepers)
        self._woken_count = self._wait_semaphore = _Sleepers(lambda: 0)
        self._make_methods()

    def _count_sleepers(self) -> int:
        response = self._lock._semlock.request(Operation.SLEEPERS, self._key)
        assert response is not None
        return int(response.arguments[0])

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, sleep until notified or until the time is over, take the lock again.

        Returns:
            False if the time was over first.
        """
        assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
        return self._lock._semlock.sleep(self._key, timeout)

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` of those that sleep."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        if n > 0:
            self._lock._semlock.tell(Operation.NOTIFY, self._key, min(n, SEM_VALUE_MAX))

    def notify_all(self) -> None:
        """Wake all that sleep."""
        self.notify(SEM_VALUE_MAX)


class Event(_standard.Event):
    """An event, as `multiprocessing.Event`."""

    def __init__(self, *, ctx: Any = None) -> None:
        del ctx
        self._shared = SharedObject(Kind.EVENT, [], "Event")

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._wait(False, None)

    def set(self) -> None:
        """Set it: who waits for it goes on."""
        self._shared.tell(Operation.SET)

    def clear(self) -> None:
        """Clear it: who waits for it from now on waits."""
        self._shared.tell(Operation.CLEAR)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return False if the time was over first."""
        return self._wait(True, time_limit(timeout))

    def _wait(self, block: bool, seconds: float | None) -> bool:
        response = self._shared.request(Operation.WAIT, block, seconds, seconds=seconds)
        return response is not None and response.outcome == Outcome.OK


class Barrier(_standard.Barrier):
    """A barrier, as `multiprocessing.Barrier`. The death of a process that waits there breaks it."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        del ctx
        if sys.version_info >= (3, 13) and parties < 1:
            raise ValueError("parties must be > 0")
        shared = SharedObject(Kind.BARRIER, [_needed(parties)], "Barrier")
        self._parties, self._action, self._timeout, self._shared = parties, action, timeout, shared

    def __getstate__(self) -> tuple[Any, ...]:
        return self._parties, self._action, self._timeout, self._shared

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._parties, self._action, self._timeout, self._shared = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have arrived; return which of them this thread is, 0 to `parties` - 1.

        The last to arrive runs the action first.

        Raises:
            BrokenBarrierError: the time was over, or the barrier was reset or is broken.
        """
        if timeout is None:
            timeout = self._timeout
        seconds = time_limit(timeout)
        response = self._shared.request(
            Operation.ARRIVE,
            seconds,
            self._action is not None,
            seconds=seconds,
            keeper_decides=True,
        )
        assert response is not None
        if response.outcome == Outcome.BROKEN:
            raise threading.BrokenBarrierError
        if response.outcome == Outcome.LEAD:
            self._lead(response.arguments[1])
        return int(response.arguments[0])

    def _lead(self, generation: int) -> None:
        assert self._action is not None
        try:
            self._action()
        except BaseException:
            self.abort()
            raise
        self._shared.tell(Operation.OPEN, generation)

    def reset(self) -> None:
        """Empty it: who waits there gets a `BrokenBarrierError`, and it can be used again."""
        self._shared.request(Operation.RESET)

    def abort(self) -> None:
        """Break it: who waits there, and who comes later, gets a `BrokenBarrierError`."""
        self._shared.request(Operation.BREAK)

    def _look(self) -> tuple[int, bool]:
        response = self._shared.request(Operation.LOOK)
        assert response is not None
        _, there, broken = response.arguments
        return there, broken

    @property
    def n_waiting(self) -> int:
        """How many wait at it."""
        return self._look()[0]

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._look()[1]


def _needed(parties: Any) -> int:
    """Return how many have to arrive at a barrier of `parties`.

    Before Python 3.13 the standard library takes a number that never arrives, and waits.

    Raises:
        TypeError: it is no number.
    """
    if 0 < parties <= MAX_PARTIES and parties == int(parties):
        return int(parties)
    return MAX_PARTIES


def __getattr__(name: str) -> Any:
    # What the standard module has besides.
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)
