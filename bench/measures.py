"""What is measured. Each measure runs alone in a fresh process with one system.

    python -m bench.measures SYSTEM MEASURE

prints one JSON object: ``{"figures": {name: value}, "versions": {distribution: version}}``.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable

from bench import tasks
from bench.peers import PEERS, WORKERS, System

MB = 1_000_000
_SECONDS = 2.0
_IDLE_SECONDS = 10.0


def noop(system: System) -> dict[str, float]:
    """Tracked no-op tasks: submit one by one in a plain loop, then take every result."""
    count = 300
    for _ in range(3):  # as many as take two seconds, which has to be found out
        rate, cpu = _noops(system, count)
        count = int(min(max(rate * _SECONDS, 300), 400_000))
    return {"no-op tasks/s": rate, "CPU per task, µs": cpu * 1e6}


def roundtrip(system: System) -> dict[str, float]:
    """A lone task at a time: milliseconds from submit to result."""
    for _ in range(50):
        system.submit(tasks.noop, 1)()
    times = []
    for number in range(1_000):
        began = time.perf_counter()
        assert system.submit(tasks.noop, number)() == number
        times.append((time.perf_counter() - began) * 1e3)
        if len(times) >= 200 and sum(times) > 10_000:
            break
    times.sort()
    return {
        "round trip p50, ms": statistics.median(times),
        "round trip p99, ms": times[int(len(times) * 0.99)],
    }


def chunked_map(system: System) -> dict[str, float]:
    """`abs` of a million integers, at the best of three chunk sizes."""
    values = range(-500_000, 500_000)
    system.chunked_map(values[:10_000], 1_000)
    best = 0.0
    for chunk in (2_000, 15_625, 125_000):
        began = time.perf_counter()
        result = system.chunked_map(values, chunk)
        best = max(best, len(values) / (time.perf_counter() - began))
        assert len(result) == len(values)
        assert result[:2] == [500_000, 499_999]
    return {"chunked map, items/s": best}


def results(system: System) -> dict[str, float]:
    """Array results, one after the other: MB/s at three sizes."""
    figures = {}
    for size, count in ((1 * MB, 100), (16 * MB, 20), (128 * MB, 6)):
        assert system.submit(tasks.array, size)().nbytes == size
        began = time.perf_counter()
        for _ in range(count):
            value = system.submit(tasks.array, size)()
            assert value.nbytes == size
            assert value[-1] == 1
            del value
        seconds = time.perf_counter() - began
        figures[f"{size // MB} MB results, MB/s"] = count * size / MB / seconds
    return figures


def argument(system: System) -> dict[str, float]:
    """A 64 MB array that 100 tasks take as an argument: seconds."""
    value = tasks.array(64 * MB)
    system.submit(tasks.noop, 0)()
    began = time.perf_counter()
    shared = system.share(value)
    waits = [system.submit(tasks.length, shared, number) for number in range(100)]
    assert all(wait() == 64 * MB for wait in waits)
    return {"64 MB argument x 100 tasks, s": time.perf_counter() - began}


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
    time.sleep(2.0)
    family = psutil.Process().children(recursive=True)
    before = sum(map(_cpu, family))
    time.sleep(_IDLE_SECONDS)
    used = sum(map(_cpu, family)) - before
    memory = sum(process.memory_full_info().pss for process in family)
    return {"idle CPU, % of a core": used / _IDLE_SECONDS * 100, "idle memory, PSS MB": memory / MB}


MEASURES: dict[str, Callable[[System], dict[str, float]]] = {
    "noop": noop,
    "roundtrip": roundtrip,
    "map": chunked_map,
    "results": results,
    "argument": argument,
    "sleeps": sleeps,
    "idle": idle,
}
#: Taken with every measure, from before the system is imported.
FIRST = "first result, s"


def _noops(system: System, count: int) -> tuple[float, float]:
    import psutil

    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    cpu = sum(map(_cpu, family))
    began = time.perf_counter()
    waits = [system.submit(tasks.noop, number) for number in range(count)]
    answers = [wait() for wait in waits]
    elapsed = time.perf_counter() - began
    assert answers == list(range(count))
    return count / elapsed, (sum(map(_cpu, family)) - cpu) / count


def _cpu(process: object) -> float:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def main(arguments: list[str]) -> int:
    """Run one measure on one system."""
    name, measure = arguments
    peer = PEERS[name]
    began = time.perf_counter()
    system = peer.load()()
    assert system.submit(tasks.noop, 7)() == 7
    figures = {FIRST: time.perf_counter() - began}
    try:
        figures |= MEASURES[measure](system)
    finally:
        system.close()
    versions = {package: importlib.metadata.version(package) for package in peer.versions}
    print(json.dumps({"figures": figures, "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
