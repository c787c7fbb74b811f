"""What stands in for the standard library's `SemLock`: the same interface over the keeper of the state.

The classes of `multiprocessing.synchronize` know their semaphore by `_semlock`. They work with this one,
and so do programs that reach for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from manyhands.multiprocessing._objects.delegation import Delegation
from manyhands.multiprocessing._objects.shared_object import (
    SharedObject,
    c_int,
    known_objects,
    time_limit,
)
from manyhands.multiprocessing._processes import membership
from manyhands.multiprocessing._processes.unsaid import taken
from manyhands_shared.coordination.kinds import MAX_VALUE, Kind, Operation, Outcome
from manyhands_shared.errors import SharedStateLost
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
#: After this number of acquisitions a process is ready to have a lock delegated.
_FEW = 2
#: How often a process asks for a lock that is being called back, and how long if it cannot wait for it.
_AGAIN_SECONDS, _AGAIN_MOST = 0.0002, 1.0


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
        #: A lock that this process takes and releases by itself.
        self._delegation: Delegation | None = None
        #: The same, for a finalizer; None before the first.
        self._delegated: list[Delegation] | None = None
        self._acquisitions = 0

    @classmethod
    def made(cls, value: int, maxvalue: int, label: str) -> SemLock:
        """Return a new one.

        Raises:
            OSError: the value is out of bounds (`EINVAL`).
            OverflowError, TypeError: as `c_int` does.
        """
        value, maxvalue = c_int(value), c_int(maxvalue)
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
        delegation = self._delegation
        if delegation is not None:
            got: list[bool] = []
            try:
                if delegation.take(thread, got):
                    self._thread = thread
                    self._depth += 1
                    return True
            except BaseException:
                if got == [True] and not delegation.give():
                    self._return(delegation)
                raise
            if delegation.recalled and not delegation.taken:
                self._return(delegation)
        # The arguments are the standard library's: it takes any object for `block`.
        seconds = time_limit(timeout) if block else None
        if self._is_lock and self._acquisitions >= _FEW:
            return self._acquire_delegable(bool(block), seconds, thread)
        self._acquisitions += 1
        response = self._ask_again(
            Operation.ACQUIRE, bool(block), seconds, thread, seconds=seconds, ends=not block
        )
        if response is None or response.outcome != Outcome.OK:
            return False
        self._take(response, 1)
        return True

    def _acquire_delegable(self, block: bool, seconds: float | None, thread: int) -> bool:
        """Take a lock that this process takes often: the broker may delegate it."""
        _return_given_up()
        words = self.program().lock_words()
        slot = 0 if words is None else words.take(thread)
        try:
            response = self._ask_again(
                Operation.DELEGATE, block, seconds, thread, slot, seconds=seconds, ends=not block
            )
            if response is None or response.outcome != Outcome.OK:
                return False
            if words is not None and slot and len(response.arguments) > 1:
                delegation, slot = Delegation(words, slot, response.number), 0
                self._take(response, 1)
                self._begin_delegation(delegation)
                return True
        finally:
            if words is not None:
                words.free(slot)
        self._take(response, 1)
        return True

    def _begin_delegation(self, delegation: Delegation) -> None:
        if self._delegated is None:
            self._delegated = []
            finalizer = weakref.finalize(self, _give_up, self.key, self.secret, self._delegated)
            finalizer.atexit = False
        self._delegated.append(delegation)
        self._delegation = delegation

    def _ask_again(
        self,
        operation: Operation,
        *arguments: object,
        seconds: float | None = None,
        ends: bool = False,
    ) -> Response | None:
        """Ask until the answer does not hang on a process that has the lock delegated.

        With `ends` the answer is `None` if that process does not let go of it for long.
        """
        pause, until = _AGAIN_SECONDS, None
        while True:
            response = self.request(operation, *arguments, seconds=seconds)
            if response is None or response.outcome != Outcome.AGAIN:
                return response
            now = time.monotonic()
            until = until or now + (_AGAIN_MOST if seconds is None else seconds)
            if now >= until and (ends or seconds is not None):
                return None
            time.sleep(pause)
            pause = min(2 * pause, _AGAIN_MOST / 20)

    def _return(self, delegation: Delegation) -> None:
        """Give a delegated lock back to the broker, released."""
        if not delegation.begin_return():
            return
        try:
            self.tell(Operation.RETURN, delegation.number)
        except SharedStateLost:
            raise
        except BaseException:
            delegation.break_off()
            raise
        self._forget_delegation(delegation)

    def _forget_delegation(self, delegation: Delegation) -> None:
        if self._delegation is delegation:
            self._delegation = None
        if self._delegated is not None and delegation in self._delegated:
            self._delegated.remove(delegation)
            delegation.end()

    def call_back(self) -> Delegation | None:
        """Have a delegated lock returned when it is released; return what is to be returned now."""
        delegation = self._delegation
        return delegation if delegation is not None and delegation.recall() else None

    def return_now(self, delegation: Delegation) -> None:
        """Give a delegated lock back that no thread has."""
        self._return(delegation)

    def disown(self) -> None:
        """In a forked child: what was delegated is the parent's."""
        self._delegation = None
        if self._delegated is not None:
            self._delegated.clear()

    def _take(self, response: Response, depth: int) -> None:
        """Note that this thread has it, in as many levels.

        Raises:
            RuntimeWarning: its holder died, and warnings are errors; it is released.
        """
        stale = self._delegation
        if stale is not None:
            # The broker has given the lock to a later request.
            self._return(stale)
            self._delegation = None
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
                delegation = self._delegation
                if delegation is None:
                    self.tell(Operation.RELEASE)
                elif not delegation.give():
                    self._return(delegation)
                return
        elif self.maxvalue == SEM_VALUE_MAX:
            self.tell(Operation.RELEASE)
            return
        try:
            response = self._ask_again(Operation.RELEASE)
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
        seconds = time_limit(timeout)
        self._depth, self.abandoned = 0, False
        delegation = self._delegation
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
        finally:
            if delegation is not None:
                self._forget_delegation(delegation)
        assert response is not None
        assert response.outcome != Outcome.TOO_MANY, "the lock was released while a thread had it"
        self._take(response, depth)
        return response.outcome == Outcome.OK

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._thread == threading.get_ident()

    def _count(self) -> int:
        return self._depth

    def _get_value(self) -> int:
        delegation = self._delegation
        if delegation is not None and not delegation.recalled:
            return int(not delegation.taken)
        response = self._ask_again(Operation.VALUE)
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


#: Delegated locks whose objects this process has let go of. A finalizer says nothing itself.
_given_up: deque[tuple[bytes, bytes | None, Delegation]] = deque()


def _give_up(key: bytes, secret: bytes | None, delegated: list[Delegation]) -> None:
    for delegation in delegated:
        if delegation.begin_return():
            _given_up.append((key, secret, delegation))


def _return_given_up() -> None:
    for key, secret, delegation in taken(_given_up):
        with contextlib.suppress(SharedStateLost):
            membership.of(secret).channel.tell(Operation.RETURN, key, [delegation.number])
        delegation.end()


def return_all() -> None:
    """Give every delegated lock back as soon as no thread has it."""
    locks = [one for one in known_objects() if isinstance(one, SemLock)]
    for lock, delegation in [(lock, lock.call_back()) for lock in locks]:
        if delegation is not None:
            with contextlib.suppress(SharedStateLost):
                lock.return_now(delegation)


def _disown_all() -> None:
    _given_up.clear()
    for one in known_objects():
        if isinstance(one, SemLock):
            one.disown()


os.register_at_fork(after_in_child=_disown_all)


def _levels_inside() -> int:
    """Return how many frames there are to the one that uses the lock, that of `warnings.warn` first."""
    levels, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        levels, frame = levels + 1, frame.f_back
    return levels
