"""What an operation on a shared object costs: ours over two hosts, beside what else there is.

`python -m bench.sharing` measures in turn and several times. It takes `manyhands.multiprocessing`
between two hosts, which are two nodes of one machine that take each other for remote. Beside it stand
`multiprocessing` on one host, `multiprocessing.Manager`, and Redis where its server is installed. The
bare round trip takes the same sockets: a Unix socket to a relay, ZeroMQ to a server, and back. The
benchmark prints medians and ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tools.two_hosts import two_hosts

from bench import sharing_peers

#: Seconds that one measure of one system may take.
_PATIENCE = 120.0


class System:
    """What makes objects and processes. `module` has the names of `multiprocessing`."""

    def __init__(self, module: Any, stack: ExitStack) -> None:
        self.stack = stack
        self.module = module

    def start(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process, on the other host if there are two."""
        process = multiprocessing.Process(target=target, args=args)
        process.start()
        self.stack.callback(process.join, 10)
        return process


class Ours(System):
    """Ours: the root on one host, what it starts on the other."""

    def start(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process on the other host."""
        process = self.module.Process(target=target, args=args, node="b")
        process.start()
        self.stack.callback(process.join, 10)
        return process


def _ours(stack: ExitStack) -> System:
    import manyhands.multiprocessing as mp

    return Ours(mp, stack)


def _standard(stack: ExitStack) -> System:
    return System(multiprocessing, stack)


def _manager(stack: ExitStack) -> System:
    return System(stack.enter_context(multiprocessing.Manager()), stack)


def _redis(stack: ExitStack) -> System:
    return System(stack.enter_context(sharing_peers.redis()), stack)


def _bare(stack: ExitStack) -> System:
    return System(stack.enter_context(sharing_peers.bare()), stack)


SYSTEMS: dict[str, Callable[[ExitStack], System]] = {
    "manyhands": _ours,
    "multiprocessing": _standard,
    "Manager": _manager,
    "Redis": _redis,
    "bare round trip": _bare,
}


# What processes do.


def _pairs(lock: Any, count: int, out: Any) -> None:
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


def _contend(lock: Any, begin: Any, count: int, out: Any) -> None:
    out.put("ready")
    begin.wait()
    began = time.monotonic()
    for _ in range(count):
        lock.acquire()
        lock.release()
    out.put((began, time.monotonic()))


def _answer(asked: Any, answered: Any, count: int) -> None:
    for _ in range(count):
        asked.acquire()
        answered.release()


def _meet(barrier: Any, count: int) -> None:
    for _ in range(count):
        barrier.wait()


def _produce(queue: Any, count: int, item: bytes) -> None:
    for _ in range(count):
        queue.put(item)


# What is measured: seconds of an operation, or operations a second.


def lock_pair(system: System, count: int) -> float:
    """An acquisition and a release, alone: the median of a process on the other host."""
    # A manager's objects go with the last reference: a process that is started has none yet.
    out, lock = system.module.Queue(), system.module.Lock()
    system.start(_pairs, lock, count, out)
    return float(statistics.median(out.get()))


def lock_two(system: System, count: int) -> float:
    """An acquisition and a release, while a process of each host does nothing else."""
    lock, begin, out = system.module.Lock(), system.module.Event(), system.module.Queue()
    system.start(_contend, lock, begin, count, out)
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
    system.start(_answer, asked, answered, count + 20)
    for at in range(count + 20):
        if at == 20:
            began = time.perf_counter()
        asked.release()
        answered.acquire()
    return (time.perf_counter() - began) / count / 2


def barrier_two(system: System, count: int) -> float:
    """A barrier of two processes."""
    barrier = system.module.Barrier(2)
    system.start(_meet, barrier, count + 20)
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
    return _queue(system, max(20, count // 20), bytes(1 << 20))


def _queue(system: System, count: int, item: bytes) -> float:
    queue = system.module.Queue()
    system.start(_produce, queue, count + 1, item)
    queue.get()
    began = time.perf_counter()
    for _ in range(count):
        queue.get()
    return count / (time.perf_counter() - began)


MEASURES: dict[str, tuple[Callable[[System, int], float], str]] = {
    "lock pair, alone": (lock_pair, "µs"),
    "lock pair, two hosts at once": (lock_two, "µs"),
    "semaphore, one way": (ping_pong, "µs"),
    "barrier of two": (barrier_two, "µs"),
    "queue, small items": (queue_items, "1/s"),
    "queue, 1 MiB items": (queue_large, "1/s"),
}
#: What some systems have nothing for.
_MISSING = {
    "Redis": {"barrier of two"},
    "bare round trip": MEASURES.keys() - {"lock pair, alone"},
}


def measure(name: str, system: str, count: int, address: str) -> float | None:
    """Measure one thing of one system, in a process of its own; `None` if it cannot be."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench.sharing", "--one", name, system, "--count", str(count)],
        env={**os.environ, "MANYHANDS_BROKER": address},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if ended.returncode:
        print(f"{system}, {name}: {ended.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(ended.stdout)


def table(rows: dict[str, dict[str, list[float]]], systems: list[str]) -> str:
    """Return medians, and in brackets how ours compares: its cost or rate over the other's."""
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    for name, found in rows.items():
        unit, cells = MEASURES[name][1], []
        ours = statistics.median(found["manyhands"]) if found.get("manyhands") else None
        for system in systems:
            if not found.get(system):
                cells.append("")
                continue
            value = statistics.median(found[system])
            shown = f"{value * 1e6:.1f}" if unit == "µs" else f"{value:,.0f}"
            ratio = f" ({ours / value:.2f} x)" if ours and system != "manyhands" else ""
            cells.append(f"{shown} {unit}{ratio}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sharing", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="operations of each measure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--systems", nargs="*", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, system = options.one
        with ExitStack() as stack:
            print(MEASURES[name][0](SYSTEMS[system](stack), options.count))
        return
    systems = [one for one in options.systems if one != "Redis" or sharing_peers.has_redis()]
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in options.measures}
    with two_hosts(slots=1) as address:
        for _ in range(options.repeats):
            for name in options.measures:
                for system in systems:
                    if name in _MISSING.get(system, ()):
                        continue
                    value = measure(name, system, options.count, address)
                    if value is not None:
                        rows[name].setdefault(system, []).append(value)
    print(table(rows, systems))


if __name__ == "__main__":
    main()
