"""What it costs to look on, in pairs: ten open pages or none, the history of jobs or none.

    python -m bench.looking.watched pages      the rate with ten open pages, as a share of that without
    python -m bench.looking.watched history    the rate of no-op tasks with the history, likewise

Both take turns, several in each round: one cluster differs from the next by 5 %, and the machine's
speed changes from second to second. They print two ratios: of tasks a second, and of the broker's CPU
time per task. With each goes its standard error over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

import manyhands
from bench.fleet import cpu_seconds
from bench.tasks import noop

_PAGES = 10
_VIEWS = "view=overview&view=stream"
_TASKS = 600_000
_TURNS = 12
#: Has a module that Python imports at the start of each process: without history, if it is told so.
_WITHOUT = Path(__file__).with_name("without_history")


def main() -> int:
    """Measure; print a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.looking.watched", description=__doc__)
    parser.add_argument("what", choices=("pages", "history"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=_TASKS)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    pair = _pages if options.what == "pages" else _history
    rates, costs = [], []
    for _ in range(options.rounds):
        with_, without = pair(options.tasks, options.slots)
        rates.append(with_.rate / without.rate)
        costs.append(with_.cpu / without.cpu)
        print(
            f"with {with_.rate:,.0f} tasks/s and {with_.cpu:.2f} µs each, "
            f"without {without.rate:,.0f} and {without.cpu:.2f}: "
            f"rate {rates[-1]:.3f}, CPU {costs[-1]:.3f}",
            flush=True,
        )
    print(f"mean: rate {_mean(rates)}, CPU {_mean(costs)}")
    return 0


def _mean(ratios: list[float]) -> str:
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    return f"{statistics.mean(ratios):.3f} ± {error:.3f}"


class Figures(NamedTuple):
    """Tasks a second, and microseconds of CPU time for each."""

    rate: float
    cpu: float


def _pages(tasks: int, slots: int) -> tuple[Figures, Figures]:
    """Return the figures with open pages and without, of one cluster."""
    with (
        manyhands.LocalCluster(nodes=1, slots=slots, broker={"http": "127.0.0.1:0"}) as cluster,
        manyhands.Executor(address=cluster.address) as executor,
    ):
        assert cluster.broker is not None
        broker = [psutil.Process(cluster.broker.pid)]
        _run(executor, tasks // 4, broker)

        def looked_at(count: int) -> Figures:
            with _open_pages(cluster.dashboard_url):
                return _run(executor, count, broker)

        return _in_turn(looked_at, lambda count: _run(executor, count, broker), tasks)


def _history(tasks: int, slots: int) -> tuple[Figures, Figures]:
    """Return the figures with the history of jobs and without, of a cluster each."""
    os.environ["PYTHONPATH"] = str(_WITHOUT)
    try:
        with ExitStack() as stack:
            with_ = stack.enter_context(_cluster("on", tasks, slots))
            without = stack.enter_context(_cluster("off", tasks, slots))
            return _in_turn(with_, without, tasks)
    finally:
        del os.environ["PYTHONPATH"], os.environ["BENCH_HISTORY"]


@contextmanager
def _cluster(kept: str, tasks: int, slots: int) -> Iterator[Callable[[int], Figures]]:
    """Yield what runs tasks, a number of them, on a warm cluster with the history or without."""
    os.environ["BENCH_HISTORY"] = kept
    with (
        manyhands.LocalCluster(nodes=1, slots=slots) as cluster,
        manyhands.Executor(address=cluster.address) as executor,
    ):
        assert cluster.broker is not None
        broker = [psutil.Process(cluster.broker.pid)]
        _run(executor, tasks // 4, broker)
        yield lambda count: _run(executor, count, broker)


def _in_turn(
    with_: Callable[[int], Figures], without: Callable[[int], Figures], tasks: int
) -> tuple[Figures, Figures]:
    """Return the means of both, which take turns."""
    found: tuple[list[Figures], list[Figures]] = [], []
    for turn in range(_TURNS):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for which in order:
            found[which].append((with_, without)[which](tasks // _TURNS))
    return _mean_of(found[0]), _mean_of(found[1])


def _mean_of(all_figures: list[Figures]) -> Figures:
    rates, costs = zip(*all_figures, strict=True)
    return Figures(statistics.mean(rates), statistics.mean(costs))


def _run(executor: manyhands.Executor, tasks: int, processes: list[psutil.Process]) -> Figures:
    before, began = sum(map(cpu_seconds, processes)), time.perf_counter()
    for _ in executor.map(noop, range(tasks), chunksize=1):
        pass
    rate = tasks / (time.perf_counter() - began)
    return Figures(rate, 1e6 * (sum(map(cpu_seconds, processes)) - before) / tasks)


@contextmanager
def _open_pages(url: str) -> Iterator[None]:
    """Read what ten pages are sent, as their browsers elsewhere do."""
    parts = urlsplit(url)
    request = f"GET /api/events?{_VIEWS} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(_PAGES):
            link = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
            stack.callback(link.shutdown, socket.SHUT_RDWR)
            link.sendall(request)
            assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
            Thread(target=_read, args=(link,), daemon=True).start()
        yield


def _read(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while link.recv(1 << 16):
            pass


if __name__ == "__main__":
    sys.exit(main())
