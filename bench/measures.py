"""What is measured. Each measure runs alone in a fresh process with one peer.

    python -m bench.measures PEER MEASURE

prints one JSON object: figure → value.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from bench import tasks
from bench.peers import PEERS, WORKERS, Peer

MB = 1_000_000
_SECONDS = 2.0


def noop(peer: Peer) -> dict[str, float]:
    """Tracked no-op tasks: submit one by one in a plain loop, then take every result."""
    rate = _noops(peer, 300)[0]
    count = int(min(max(rate * _SECONDS, 300), 400_000))
    rate = _noops(peer, count // 4)[0]
    rate, cpu = _noops(peer, int(min(max(rate * _SECONDS, 300), 400_000)))
    return {"tasks/s": rate, "CPU µs/task": cpu * 1e6}


def roundtrip(peer: Peer) -> dict[str, float]:
    """A lone task at a time: milliseconds from submit to result."""
    for _ in range(50):
        peer.submit(tasks.noop, 1)()
    times = []
    for number in range(500):
        began = time.perf_counter()
        assert peer.submit(tasks.noop, number)() == number
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {"p50 ms": statistics.median(times), "p99 ms": times[int(len(times) * 0.99)]}


def chunked_map(peer: Peer) -> dict[str, float]:
    """`abs` of a million integers, at the best of three chunk sizes."""
    values = range(-500_000, 500_000)
    peer.chunked_map(values[:10_000], 1_000)
    best = 0.0
    for chunk in (2_000, 15_625, 125_000):
        began = time.perf_counter()
        result = peer.chunked_map(values, chunk)
        best = max(best, len(values) / (time.perf_counter() - began))
        assert len(result) == len(values)
        assert result[:2] == [500_000, 499_999]
    return {"items/s": best}


def results(peer: Peer) -> dict[str, float]:
    """Array results, one after the other: MB/s at three sizes."""
    figures = {}
    for size, count in ((1 * MB, 100), (16 * MB, 20), (128 * MB, 6)):
        assert peer.submit(tasks.array, size)().nbytes == size
        began = time.perf_counter()
        for _ in range(count):
            value = peer.submit(tasks.array, size)()
            assert value.nbytes == size
            assert value[-1] == 1
            del value
        figures[f"{size // MB} MB"] = count * size / MB / (time.perf_counter() - began)
    return figures


def argument(peer: Peer) -> dict[str, float]:
    """A 64 MB array that 100 tasks take as an argument: seconds."""
    value = tasks.array(64 * MB)
    peer.submit(tasks.noop, 0)()
    began = time.perf_counter()
    shared = peer.share(value)
    waits = [peer.submit(tasks.length, shared, number) for number in range(100)]
    assert all(wait() == 64 * MB for wait in waits)
    return {"seconds": time.perf_counter() - began}


def sleeps(peer: Peer) -> dict[str, float]:
    """64 tasks of 50 ms on the workers: the share of the ideal rate."""
    for _ in range(4):
        peer.submit(tasks.pause, 0.05)()
    began = time.perf_counter()
    waits = [peer.submit(tasks.pause, 0.05) for _ in range(64)]
    for wait in waits:
        wait()
    return {"of ideal": 64 * 0.05 / WORKERS / (time.perf_counter() - began)}


def idle(peer: Peer) -> dict[str, float]:
    """CPU and memory of everything but this process while nothing happens."""
    peer.submit(tasks.noop, 0)()
    time.sleep(2.0)
    family = psutil.Process().children(recursive=True)
    before = sum(map(_cpu, family))
    time.sleep(10.0)
    used = sum(map(_cpu, family)) - before
    memory = sum(process.memory_full_info().pss for process in family)
    return {"% of a core": used / 10.0 * 100, "PSS MB": memory / MB}


MEASURES: dict[str, Callable[[Peer], dict[str, float]]] = {
    "noop": noop,
    "map": chunked_map,
    "roundtrip": roundtrip,
    "results": results,
    "argument": argument,
    "sleeps": sleeps,
    "idle": idle,
}


def _noops(peer: Peer, count: int) -> tuple[float, float]:
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    cpu = sum(map(_cpu, family))
    began = time.perf_counter()
    waits = [peer.submit(tasks.noop, number) for number in range(count)]
    answers = [wait() for wait in waits]
    elapsed = time.perf_counter() - began
    assert answers == list(range(count))
    return count / elapsed, (sum(map(_cpu, family)) - cpu) / count


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def main(arguments: list[str]) -> int:
    """Run one measure on one peer."""
    name, measure = arguments
    began = time.perf_counter()
    peer: Any = PEERS[name]()
    assert peer.submit(tasks.noop, 7)() == 7
    first = time.perf_counter() - began
    try:
        figures = MEASURES[measure](peer)
    finally:
        peer.close()
    print(json.dumps({"first result s": first, **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
