"""What is measured of shared objects and processes: seconds of an operation, or operations a second."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.sharing import work
from bench.sharing.systems import System

#: Numbers of the array that NumPy works on.
_NUMBERS = 1_000_000
_MEBIBYTE = 1 << 20


# What is measured.


def lock_pair(system: System, count: int) -> float:
    """An acquisition and a release, alone: the median of a process on the other host."""
    # A manager's objects go with the last reference: a process that is started has none yet.
    out, lock = system.module.Queue(), system.module.Lock()
    system.start(work.pairs, lock, count, out)
    return float(statistics.median(out.get()))


def lock_two(system: System, count: int) -> float:
    """An acquisition and a release, while a process of each host does nothing else."""
    lock, begin, out = system.module.Lock(), system.module.Event(), system.module.Queue()
    system.start(work.contend, lock, begin, count, out)
    out.get()
    begin.set()
    own = time.monotonic()
    for _ in range(count):
        lock.acquire()
        lock.release()
    ended = time.monotonic()
    began, other = out.get()
    return float(max(ended, other) - min(own, began)) / (2 * count)


def ping_pong(system: System, count: int) -> float:
    """A semaphore's token there and another back, halved: the way from one process to another."""
    asked, answered = system.module.Semaphore(0), system.module.Semaphore(0)
    system.start(work.answer, asked, answered, count + 20)
    for at in range(count + 20):
        if at == 20:
            began = time.perf_counter()
        asked.release()
        answered.acquire()
    return (time.perf_counter() - began) / count / 2


def barrier_two(system: System, count: int) -> float:
    """A barrier of two processes."""
    barrier = system.module.Barrier(2)
    system.start(work.meet, barrier, count + 20)
    for at in range(count + 20):
        if at == 20:
            began = time.perf_counter()
        barrier.wait()
    return (time.perf_counter() - began) / count


def queue_items(system: System, count: int) -> float:
    """Small items a second, from the other host to this one."""
    return _queue(system, count * 4, b"x" * 20)


def queue_large(system: System, count: int) -> float:
    """Items of 1 MiB a second."""
    return _queue(system, max(20, count // 20), bytes(_MEBIBYTE))


def pipe_small(system: System, count: int) -> float:
    """Messages of 20 bytes a second, between two processes of this host."""
    return _pipe(system, count * 10, bytes(20))


def pipe_large(system: System, count: int) -> float:
    """Messages of 1 MiB a second, between two processes of this host."""
    return _pipe(system, max(20, count // 2), bytes(_MEBIBYTE))


def _queue(system: System, count: int, item: bytes) -> float:
    queue = system.module.Queue()
    system.start(work.produce, queue, count + 1, item)
    return _rate(queue.get, count)


def _pipe(system: System, count: int, message: bytes) -> float:
    reader, writer = system.module.Pipe(duplex=False)
    system.start_here(work.send, writer, count + 1, message)
    return _rate(reader.recv, count)


def _rate(receive: Callable[[], object], count: int) -> float:
    """How many come a second, from the first one on."""
    receive()
    began = time.perf_counter()
    for _ in range(count):
        receive()
    return count / (time.perf_counter() - began)


def numpy_pass(system: System, _: int) -> float:
    """`numbers += 1.0` over a `RawArray` of a million doubles, in another process of this host."""
    memory, out = system.module.RawArray(ctypes.c_double, _NUMBERS), system.module.Queue()
    system.start_here(work.pass_over, memory, out)
    return float(out.get())


class Measure(NamedTuple):
    """What is measured, in which unit, and beside which others."""

    #: A name is of a measure of `program`.
    run: Callable[[System, int], float] | str
    unit: str
    peers: frozenset[str]


_SERVERS = frozenset({"multiprocessing", "Manager", "Redis"})
_PROCESS_STARTS = frozenset({"multiprocessing", "its fork server"})
_STANDARD = frozenset({"multiprocessing"})

MEASURES = {
    "lock pair, alone": Measure(lock_pair, "µs", _SERVERS | {"bare round trip"}),
    "lock pair, two hosts at once": Measure(lock_two, "µs", _SERVERS),
    "semaphore, one way": Measure(ping_pong, "µs", _SERVERS),
    "barrier of two": Measure(barrier_two, "µs", _SERVERS - {"Redis"}),
    "queue, small items": Measure(queue_items, "1/s", _SERVERS),
    "queue, 1 MiB items": Measure(queue_large, "1/s", _SERVERS),
    "pipe of one host, small messages": Measure(pipe_small, "1/s", _STANDARD),
    "pipe of one host, 1 MiB messages": Measure(pipe_large, "1/s", _STANDARD),
    "NumPy over a RawArray": Measure(numpy_pass, "µs", _STANDARD),
    "process, start to running": Measure("start to running", "ms", _PROCESS_STARTS),
    "eight processes with a Value": Measure("value program", "ms", _PROCESS_STARTS),
}
