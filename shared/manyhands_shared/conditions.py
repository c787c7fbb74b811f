"""Waiting for what another thread does, in code that an exception may come into anywhere.

A signal handler may raise behind any call. The standard library enters and leaves its conditions by
lines of Python. It lets go of the lock before the lines that take it again. An exception in there leaves
the lock taken for ever, or has it let go of twice.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from manyhands_shared.clock import monotonic


class Condition:
    """As `threading.Condition`, but entered by `with condition.lock`, where nothing comes between."""

    def __init__(self) -> None:
        #: Recursive: a handler may come in while its thread has it.
        self.lock: Any = threading.RLock()
        self._waiters: deque[Any] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until the next `notify_all`; return whether that came in time."""
        waiter = threading.Lock()
        waiter.acquire()
        came, state = False, (1, threading.get_ident())
        seconds = -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        try:
            self._waiters.append(waiter)
            state = self.lock._release_save()
            try:
                came = waiter.acquire(timeout=seconds)
            finally:
                self.lock._acquire_restore(state)  # first of all: no call is before it
        except BaseException:
            # It may have come right behind the call that let go of the lock.
            if not self.lock._is_owned():
                self.lock._acquire_restore(state)
            raise
        finally:
            if not came:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
        return came

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until the predicate is true, or the time is over; return whether it is."""
        until = None if timeout is None else monotonic() + timeout
        while not predicate():
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return False
            self.wait(left)
        return True

    def notify_all(self) -> None:
        """Wake all that wait. Hold the lock."""
        for waiter in tuple(self._waiters):
            with suppress(RuntimeError):  # an exception ended this before: it was woken already
                waiter.release()
        self._waiters.clear()


class Latch:
    """What is set once, and waited for: as `threading.Event`, by such a condition."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._is_set = False

    def set(self) -> None:
        """Have all go on that wait."""
        with self._condition.lock:
            self._is_set = True
            self._condition.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, `timeout` seconds at most; return whether it is set."""
        with self._condition.lock:
            self._condition.wait_for(lambda: self._is_set, timeout)
        return self._is_set
