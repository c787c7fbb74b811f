"""A script as users have it, run as a file: what starts processes quickly loads as little as this again.

python bench/sharing/program.py MEASURE SYSTEM
"""

from __future__ import annotations

import importlib
import multiprocessing
import statistics
import sys
import time
from typing import Any

#: Starts. The median is of the last three quarters: the first ones bring what starts the others.
_STARTS = 40
_PROCESSES = 8


def tell_when(end: Any) -> None:
    """Tell the time."""
    end.send(time.monotonic())


def increment(value: Any) -> None:
    """Add one under the lock, and print."""
    with value.get_lock():
        value.value += 1
        print(value.value, flush=True)


def start_to_running(mp: Any, other_host: dict[str, str]) -> float:
    """From before `start` to the first line of the process, on the other host if there is one."""
    times = list[float]()
    for _ in range(_STARTS):
        reader, writer = mp.Pipe(duplex=False)
        began = time.monotonic()
        process = mp.Process(target=tell_when, args=(writer,), **other_host)
        process.start()
        times.append(reader.recv() - began)
        process.join()
    return statistics.median(times[_STARTS // 4 :])


def value_program(mp: Any, _: dict[str, str]) -> float:
    """Eight processes that add to one `Value` and print, from the first `start` to the last `join`."""
    _increments(mp)
    return _increments(mp)


def _increments(mp: Any) -> float:
    value = mp.Value("i", 0)
    began = time.perf_counter()
    processes = [mp.Process(target=increment, args=(value,)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took = time.perf_counter() - began
    assert value.value == _PROCESSES
    return took


MEASURES = {"start to running": start_to_running, "value program": value_program}
CONTEXTS = {"multiprocessing": "fork", "its fork server": "forkserver"}

if __name__ == "__main__":
    name, system = sys.argv[1:]
    if system in CONTEXTS:
        module: Any = multiprocessing.get_context(CONTEXTS[system])
    else:
        module = importlib.import_module("manyhands.multiprocessing")
    print("figure:", MEASURES[name](module, {} if system in CONTEXTS else {"node": "b"}))
