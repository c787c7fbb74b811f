"""What was used a moment ago stays a moment longer: it may be used again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from manyhands_shared.processes.thread_start import start


class ExpiringCache:
    """Keeps objects alive for some seconds after they were last used.

    Args:
        seconds: how long, at least.
        max_bytes: what they may weigh together; one is always kept.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._values: OrderedDict[Hashable, tuple[float, Any, int]] = OrderedDict()
        self._nbytes = 0
        # Never held while a value goes: that may come back here, or wait for another thread that does.
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    def use(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep this for a while from now."""
        with self._lock:
            gone = [self._pop(key)]
            self._values[key] = time.monotonic() + self._seconds, value, nbytes
            self._nbytes += nbytes
            while self._nbytes > self._max_bytes and len(self._values) > 1:
                gone.append(self._pop(next(iter(self._values))))
            if self._timer is None:
                gone += self._start(self._seconds)
        del gone

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            gone = self._pop_all()
        del gone

    def _pop(self, key: Hashable) -> Any:
        _, value, nbytes = self._values.pop(key, (0.0, None, 0))
        self._nbytes -= nbytes
        return value

    def _pop_all(self) -> list[Any]:
        return [self._pop(key) for key in list(self._values)]

    def _start(self, seconds: float) -> list[Any]:
        """Have a thread let go of values later; return those to let go of now, as there is none."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        if not start(timer):
            return self._pop_all()
        self._timer = timer
        return []

    def _expire(self) -> None:
        gone: list[Any] = []
        with self._lock:
            if self._timer is None:
                return
            self._timer = None
            now = time.monotonic()
            while self._values:
                key, (due, _, _) = next(iter(self._values.items()))
                if due > now:
                    gone += self._start(due - now)
                    break
                gone.append(self._pop(key))
        del gone
