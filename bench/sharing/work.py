"""What the processes do. It imports little: a process that is started loads this module."""

from __future__ import annotations

import statistics
import time
from typing import Any

_PASSES = 200


def pairs(lock: Any, count: int, out: Any) -> None:
    """Take and release a lock; tell how long each pair took."""
    for _ in range(50):
        lock.acquire()
        lock.release()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        lock.acquire()
        lock.release()
        times.append(time.perf_counter() - began)
    out.put(times)


def contend(lock: Any, begin: Any, count: int, out: Any) -> None:
    """The same, as often as another process does it at once; tell the begin and the end."""
    out.put("ready")
    begin.wait()
    began = time.monotonic()
    for _ in range(count):
        lock.acquire()
        lock.release()
    out.put((began, time.monotonic()))


def answer(asked: Any, answered: Any, count: int) -> None:
    """Take a token and give another, again and again."""
    for _ in range(count):
        asked.acquire()
        answered.release()


def meet(barrier: Any, count: int) -> None:
    """Wait at a barrier, again and again."""
    for _ in range(count):
        barrier.wait()


def produce(queue: Any, count: int, item: bytes) -> None:
    """Put items."""
    for _ in range(count):
        queue.put(item)


def send(end: Any, count: int, message: bytes) -> None:
    """Send messages."""
    for _ in range(count):
        end.send(message)


def pass_over(memory: Any, out: Any) -> None:
    """Add to all numbers of an array with NumPy; tell the median time."""
    import numpy as np

    numbers = np.frombuffer(memory, np.float64)
    times = []
    for _ in range(_PASSES):
        began = time.perf_counter()
        numbers += 1.0
        times.append(time.perf_counter() - began)
    out.put(statistics.median(times))
