"""What is measured. Each group of measures runs alone in a fresh process with one system.

    python -m bench.measures SYSTEM MEASURE...

prints a line for each as soon as it is known: ``{"measure": name, "figures": {name: value}}``, or
``{"measure": name, "failure": why}``. Before them comes ``{"measure": "start", ...}`` with the time to
the first result and the versions.

Slow systems are measured over shorter windows: their rates are so small that a second says them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import child, tasks
from bench.peers import PEERS, WORKERS, System

MB = 1_000_000
#: A window of no-op tasks: of quick systems, and of those below `_QUICK` tasks a second.
_SECONDS, _SLOW_SECONDS, _QUICK = 2.0, 1.0, 5_000
_ROUNDS, _FEWEST_ROUNDS, _ROUNDS_SECONDS = 1_000, 200, 2.0
_ITEMS = range(-500_000, 500_000)
#: As a pool of two would choose, and an eighth of that and of that again.
_CHUNKS = (2_000, 15_625, 125_000)
_MAPS, _MAPS_SECONDS = 5, 2.5
#: Size in MB and how many of them, unless `_FEWEST` take longer than `_ARRAYS_SECONDS`.
_ARRAYS = ((1, 100), (16, 20), (128, 6))
_FEWEST, _ARRAYS_SECONDS = 3, 1.5
_TENTH_SECONDS = 1.0
_CHAIN, _DIAMONDS, _TRIPS = 1_000, 5, 200
#: How long a task of a chain takes.
TRIPS = "task of a chain, round trips"
_SETTLE_SECONDS, _IDLE_SECONDS = 2.0, 5.0


def noop(system: System) -> dict[str, float]:
    """Tracked no-op tasks: submit one by one in a plain loop, then take every result."""
    rate, cpu = _noops(system, 300)
    for _ in range(2 if rate > _QUICK else 1):  # as many as fill the window: found out by trying
        window = _SECONDS if rate > _QUICK else _SLOW_SECONDS
        rate, cpu = _noops(system, int(min(max(rate * window, 300), 400_000)))
    return {"no-op tasks/s": rate, "CPU per task, µs": cpu * 1e6}


def roundtrip(system: System) -> dict[str, float]:
    """A lone task at a time: milliseconds from submit to result."""
    for _ in range(50):
        system.submit(tasks.noop, 1)()
    times: list[float] = []
    until = time.perf_counter() + _ROUNDS_SECONDS
    while len(times) < _ROUNDS and (len(times) < _FEWEST_ROUNDS or time.perf_counter() < until):
        began = time.perf_counter()
        assert system.submit(tasks.noop, len(times))() == len(times)
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {
        "round trip p50, ms": statistics.median(times),
        "round trip p99, ms": times[int(len(times) * 0.99)],
    }


def pool_map(system: System) -> dict[str, float]:
    """`abs` of a million integers in chunks, the way that the system recommends."""
    return {"map of 1,000,000, items/s": _mapped(system.chunked_map)}


def executor_map(system: System) -> dict[str, float]:
    """The same through `Executor.map`; no figure for systems without one that takes chunks."""
    mapping = getattr(system, "executor_map", None)
    return {"Executor.map of 1,000,000, items/s": _mapped(mapping)} if mapping else {}


def results(system: System) -> dict[str, float]:
    """Array results, one after the other: MB/s at three sizes."""
    figures = {}
    for size, most in _ARRAYS:
        nbytes, count = size * MB, 0
        assert system.submit(tasks.array, nbytes)().nbytes == nbytes
        began = time.perf_counter()
        while count < most and (count < _FEWEST or time.perf_counter() < began + _ARRAYS_SECONDS):
            value = system.submit(tasks.array, nbytes)()
            assert value.nbytes == nbytes
            assert value[-1] == 1
            del value
            count += 1
        figures[f"{size} MB results, MB/s"] = count * size / (time.perf_counter() - began)
    return figures


def argument(system: System) -> dict[str, float]:
    """A 64 MB array that 100 tasks take as an argument: seconds.

    Where the first ten take long, which is where each task is sent the whole array, they stand for
    all: ten times their time.
    """
    value = tasks.array(64 * MB)
    system.submit(tasks.noop, 0)()
    began = time.perf_counter()
    shared = system.share(value)
    for count in (10, 90):
        waits = [system.submit(tasks.length, shared, number) for number in range(count)]
        assert all(wait() == 64 * MB for wait in waits)
        spent = time.perf_counter() - began
        if count == 10 and spent > _TENTH_SECONDS:
            spent *= 10
            break
    return {"64 MB argument x 100 tasks, s": spent}


def chain(system: System) -> dict[str, float]:
    """Tasks that each take the future of the one before; systems without that have no figure.

    What one of them takes is told in lone round trips as well, those of just before.
    """
    after = getattr(system, "after", None)
    if after is None:
        return {}
    system.value(after(tasks.noop, after(tasks.noop, 1)))  # type: ignore[attr-defined]
    began = time.perf_counter()
    for number in range(_TRIPS):
        system.submit(tasks.noop, number)()
    trip = (time.perf_counter() - began) / _TRIPS
    began = time.perf_counter()
    last = after(tasks.noop, 7)
    for _ in range(_CHAIN - 1):
        last = after(tasks.noop, last)
    assert system.value(last) == 7  # type: ignore[attr-defined]
    spent = time.perf_counter() - began
    return {"chain of 1,000 tasks, s": spent, TRIPS: spent / _CHAIN / trip}


def diamond(system: System) -> dict[str, float]:
    """Two tasks take a 64 MB array and make one each, a fourth takes both: seconds, the median."""
    after = getattr(system, "after", None)
    if after is None:
        return {}
    spent = []
    for _ in range(_DIAMONDS):
        began = time.perf_counter()
        top = after(tasks.array, 64 * MB)
        bottom = after(tasks.both, after(tasks.doubled, top), after(tasks.doubled, top))
        assert system.value(bottom) == 4  # type: ignore[attr-defined]
        spent.append(time.perf_counter() - began)
    return {"diamond of 64 MB arrays, s": statistics.median(spent)}


def sleeps(system: System) -> dict[str, float]:
    """64 tasks of 50 ms on the workers: the share of the ideal rate."""
    for _ in range(4):
        system.submit(tasks.pause, 0.05)()
    began = time.perf_counter()
    waits = [system.submit(tasks.pause, 0.05) for _ in range(64)]
    for wait in waits:
        wait()
    return {"sleep(0.05) x 64, of ideal": 64 * 0.05 / WORKERS / (time.perf_counter() - began)}


def idle(system: System) -> dict[str, float]:
    """CPU and memory of everything but this process while nothing happens."""
    import psutil

    system.submit(tasks.noop, 0)()
    time.sleep(_SETTLE_SECONDS)
    family = [pid for pid in child.family() if pid != os.getpid()]
    before, began = sum(map(_precise_cpu, family)), time.perf_counter()
    time.sleep(_IDLE_SECONDS)
    used, seconds = sum(map(_precise_cpu, family)) - before, time.perf_counter() - began
    memory = sum(psutil.Process(pid).memory_full_info().pss for pid in family)
    return {"idle CPU, % of a core": used / seconds * 100, "idle memory, PSS MB": memory / MB}


MEASURES: dict[str, Callable[[System], dict[str, float]]] = {
    "roundtrip": roundtrip,
    "noop": noop,
    "chain": chain,
    "sleeps": sleeps,
    "map": pool_map,
    "executor_map": executor_map,
    "results": results,
    "argument": argument,
    "diamond": diamond,
    "idle": idle,
}
#: Measures that share one start of a system: the small ones, the large ones, and rest, in which
#: nothing shall be left over from work.
GROUPS = (
    ("roundtrip", "noop", "chain", "sleeps"),
    ("map", "executor_map", "results", "argument", "diamond"),
    ("idle",),
)
#: Of every start, from before the system is imported.
START, FIRST = "start", "first result, s"


def _noops(system: System, count: int) -> tuple[float, float]:
    family = child.family()
    cpu = sum(map(_cpu, family))
    began = time.perf_counter()
    waits = [system.submit(tasks.noop, number) for number in range(count)]
    answers = [wait() for wait in waits]
    elapsed = time.perf_counter() - began
    assert answers == list(range(count))
    return count / elapsed, (sum(map(_cpu, family)) - cpu) / count


def _mapped(mapping: Callable[..., list[int]]) -> float:
    """Items a second, at the best of the chunk sizes; medians of several maps where they are quick."""
    mapping(_ITEMS[:10_000], 1_000)
    spent: dict[int, list[float]] = {chunk: [] for chunk in _CHUNKS}
    until = time.perf_counter() + _MAPS_SECONDS
    for _ in range(_MAPS):
        for chunk, times in spent.items():
            began = time.perf_counter()
            result = mapping(_ITEMS, chunk)
            times.append(time.perf_counter() - began)
            assert len(result) == len(_ITEMS)
            assert result[:2] == [500_000, 499_999]
        if time.perf_counter() > until:
            break
    return len(_ITEMS) / min(map(statistics.median, spent.values()))


def _cpu(pid: int) -> float:
    """Seconds that a process has run; 0 if it has ended."""
    import psutil

    try:
        return float(sum(psutil.Process(pid).cpu_times()[:2]))
    except psutil.Error:
        return 0.0


def _precise_cpu(pid: int) -> float:
    """Seconds that the threads of a process have run, by the scheduler: to the nanosecond."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            spent += int(thread.read_text().split()[0])
        except OSError:  # it has ended
            continue
    return spent / 1e9


def main(arguments: list[str]) -> int:
    """Run measures on one system. Returns an exit code."""
    name, *measures = arguments
    peer = PEERS[name]
    began = time.perf_counter()
    system = peer.load()()
    try:
        assert system.submit(tasks.noop, 7)() == 7
        figures = {FIRST: time.perf_counter() - began}
        versions = {package: importlib.metadata.version(package) for package in peer.versions}
        _tell(measure=START, figures=figures, versions=versions)
        for measure in measures:
            try:
                _tell(measure=measure, figures=MEASURES[measure](system))
            except Exception as error:  # noqa: BLE001 - whatever a system may raise
                _tell(measure=measure, failure=f"{type(error).__name__}: {error}"[:200])
    finally:
        system.close()
    return 0


def _tell(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
