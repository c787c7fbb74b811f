"""What stands in for the standard library's `SemLock`: the same interface over the keeper of the state.

The classes of `multiprocessing.synchronize` know their semaphore by `_semlock`. They work with this one,
and so do programs that reach for it.
"""

from __future__ import annotations

import errno
import sys
import threading
import warnings
from collections.abc import Sequence
from types import TracebackType

from manyhands.multiprocessing._objects.shared_object import SharedObject
from manyhands_shared.coordination.kinds import MAX_VALUE, Kind, Operation, Outcome
from manyhands_shared.protocol.messages.coordination import Response

RECURSIVE_MUTEX, SEMAPHORE = range(2)
SEM_VALUE_MAX = MAX_VALUE
_TOO_MANY = "semaphore or lock released too many times"
#: Modules between a program and this one.
_INSIDE = ("manyhands.multiprocessing.", "multiprocessing.")
_ABANDONED = (
    "the process that held this lock has died: what the lock protects may be half changed;"
    " `abandoned` stays true until the lock is released"
)


class SemLock(SharedObject):
    """A lock or a semaphore, with what this process knows of it.

    Attributes:
        kind: `RECURSIVE_MUTEX` or `SEMAPHORE`.
        maxvalue: the highest value; 1 for locks.
        name: there is none; the standard library's is that of a file.
        fence: rises whenever the lock was taken from a holder that died.
        abandoned: whether this process has the lock of a holder that died.
    """

    name = None

    def __init__(
        self, kind: Kind, facts: Sequence[int], label: str, key: bytes | None = None
    ) -> None:
        super().__init__(kind, facts, label, key)
        self.kind = RECURSIVE_MUTEX if label == "RLock" else SEMAPHORE
        self.maxvalue = 1 if kind is Kind.LOCK else facts[1]
        self.fence = 0
        self.abandoned = False
        self._is_lock = kind is Kind.LOCK
        self._depth = 0
        self._thread = 0
        #: The request that has the lock.
        self._ticket = 0
        self._counting = threading.Lock()

    @classmethod
    def made(cls, value: int, maxvalue: int, label: str) -> SemLock:
        """Return a new one.

        Raises:
            OSError: the value is out of bounds (`EINVAL`).
        """
        if not 0 <= value <= maxvalue <= SEM_VALUE_MAX:
            raise OSError(errno.EINVAL, "Invalid argument")
        if label in ("Lock", "RLock"):
            return cls(Kind.LOCK, [], label)
        return cls(Kind.SEMAPHORE, [value, maxvalue], label)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take it; return whether it was."""
        thread = threading.get_ident()
        if self.kind == RECURSIVE_MUTEX and self._is_mine():
            self._depth += 1
            return True
        # The arguments are the standard library's: it takes any object for `block`.
        seconds = None if not block or timeout is None else max(0.0, float(timeout))
        response = self.request(Operation.ACQUIRE, bool(block), seconds, thread, seconds=seconds)
        if response is None or response.outcome != Outcome.OK:
            return False
        self._take(response, 1)
        return True

    def _take(self, response: Response, depth: int) -> None:
        """Note that this thread has it, in as many levels.

        Raises:
            RuntimeWarning: its holder died, and warnings are errors; it is released.
        """
        with self._counting:
            self._depth += depth
            self._thread = threading.get_ident()
        if not self._is_lock:
            return
        self._ticket, self.fence = response.number, response.epoch
        self.abandoned = bool(response.arguments[0])
        if self.abandoned:
            try:
                warnings.warn(_ABANDONED, RuntimeWarning, stacklevel=_levels_inside())
            except RuntimeWarning:
                self._depth = 1
                self.release()
                raise

    def release(self) -> None:
        """Give it back.

        Raises:
            AssertionError: another thread has this recursive lock.
            ValueError: no thread has it.
        """
        if self.kind == RECURSIVE_MUTEX:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._depth > 1:
                self._depth -= 1
                return
        with self._counting:
            here = self._depth
            self._depth -= 1
        if self._is_lock:
            self.abandoned = False
            if here > 0:
                self.tell(Operation.RELEASE)
                return
        elif self.maxvalue == SEM_VALUE_MAX:
            self.tell(Operation.RELEASE)
            return
        try:
            response = self.request(Operation.RELEASE)
        except BaseException:
            self._uncount()
            raise
        if response is None or response.outcome != Outcome.OK:
            self._uncount()
            raise ValueError(_TOO_MANY)

    def _uncount(self) -> None:
        with self._counting:
            self._depth += 1

    def sleep(self, condition: bytes, timeout: float | None) -> bool:
        """Release the lock in all its levels, sleep on a condition, and return with the lock as before.

        Returns:
            False if the time was over first.
        """
        depth, ticket, thread = self._depth, self._ticket, self._thread
        seconds = None if timeout is None else max(0.0, float(timeout))
        self._depth, self.abandoned = 0, False
        try:
            response = self.request(
                Operation.SLEEP,
                ticket,
                condition,
                seconds,
                thread,
                seconds=seconds,
                keeper_decides=True,
            )
        except BaseException:
            # The caller is about to release it.
            self.acquire()
            self._depth = depth
            raise
        assert response is not None
        assert response.outcome != Outcome.TOO_MANY, "the lock was released while a thread had it"
        self._take(response, depth)
        return response.outcome == Outcome.OK

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._thread == threading.get_ident()

    def _count(self) -> int:
        return self._depth

    def _get_value(self) -> int:
        response = self.request(Operation.VALUE)
        assert response is not None
        return int(response.arguments[0])

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def _after_fork(self) -> None:
        self._depth = 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _levels_inside() -> int:
    """Return how many frames there are to the one that uses the lock, that of `warnings.warn` first."""
    levels, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        levels, frame = levels + 1, frame.f_back
    return levels
