"""The dashboard in Chromium with a simulated fleet at work: first paint, main thread, bytes.

    python -m bench.looking.dashboard --nodes 1000 --tasks 10000000

The nodes are simulated (`bench.simulated`): each does twenty tasks a second, and tells of their runs as
real nodes do. The figures are Chromium's own. First paint and long tasks come from the performance
timeline; a task is long from 50 ms on. Time of the main thread and bytes come from the DevTools.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import zmq

import manyhands
from bench.fleet import Feeder
from bench.simulated import Node, serve
from manyhands_shared.protocol import messages as m

if TYPE_CHECKING:
    from harness.browser import Browser

_PROCESSES = 2
_JOIN_SECONDS = 120.0
#: What a task says to have taken, and how many tasks a node does each second.
_TASK_SECONDS, _EACH_SECOND = 0.05, 20
_MICROSECONDS = 50_000
_JOB = "long"
#: What is promised: seconds, seconds of the main thread for an update, bytes a second.
_PAINT, _UPDATE, _BYTES = 1.0, 0.1, 200_000
_OBSERVE = (
    "window.seen = { longest: 0, update: 0, updates: 0 };"
    "new PerformanceObserver((list) => { for (const one of list.getEntries()) {"
    "  if (one.entryType === 'longtask') seen.longest = Math.max(seen.longest, one.duration);"
    "  else { seen.updates += 1; seen.update = Math.max(seen.update, one.duration); }"
    "} }).observe({ entryTypes: ['longtask', 'measure'] });"
)
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


class PacedNode(Node):
    """A node that does some tasks each second, and tells of their runs twice a second."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        udp: socket.socket,
        address: str,
        name: str,
        task_seconds: float,
    ) -> None:
        #: What is to be done: groups, and how much of each is done.
        self._todo: deque[tuple[m.AssignGroup, int]] = deque()
        super().__init__(context, udp, address, name, task_seconds)

    def _answer(self, group: m.AssignGroup) -> None:
        self._todo.append((group, 0))

    def live(self, now: float) -> None:
        """Do what is due as well."""
        super().live(now)
        left = _EACH_SECOND
        runs: list[m.RunGroup] = []
        while self._todo and left > 0:
            group, done = self._todo.popleft()
            indices = list(group.indices)[done : done + left]
            left -= len(indices)
            if done + len(indices) < len(group.indices):
                self._todo.appendleft((group, done + len(indices)))
            bodies = group.bodies[:0]
            part = m.AssignGroup(
                group.job, group.attempt, group.function, group.options, indices, bodies
            )
            super()._answer(part)
            figures: list[int] = []
            for place, index in enumerate(indices):
                ago = (len(indices) - place) * _MICROSECONDS
                figures += (index, 1, 0, ago, _MICROSECONDS, 1_000, 40_000, 8, 1, 8, 0)
            runs.append(m.RunGroup(group.job, group.attempt, figures))
        if runs:
            self._send(m.Ran(runs, []))


@contextmanager
def fleet(nodes: int) -> Iterator[tuple[str, str]]:
    """A broker with simulated nodes that work; its address, and where its dashboard is."""
    context = multiprocessing.get_context("spawn")
    stop, open_ = context.Event(), context.Event()
    open_.set()
    fleets: list[SpawnProcess] = []
    config = {
        "bind": "tcp://127.0.0.1:0",
        "http": "127.0.0.1:0",
        "window_tasks": 1 << 26,
        "window_bytes": 1 << 40,
    }
    with manyhands.LocalCluster(nodes=0, broker=config) as cluster:
        links = []
        for number in range(_PROCESSES):
            share = nodes // _PROCESSES + (number < nodes % _PROCESSES)
            near, far = context.Pipe()
            links.append(near)
            what = (
                cluster.address,
                f"node-{number}",
                share,
                _TASK_SECONDS,
                far,
                open_,
                stop,
                PacedNode,
            )
            fleets.append(context.Process(target=serve, args=what))
            fleets[-1].start()
        try:
            for near in links:
                if not near.poll(_JOIN_SECONDS):
                    raise TimeoutError("the simulated nodes did not join")
                near.recv()
            yield cluster.address, cluster.dashboard_url
        finally:
            stop.set()
            for process in fleets:
                process.join(_JOIN_SECONDS)
                process.kill()


def look(tab: Browser, url: str, wanted: float) -> dict[str, float]:
    """Return the figures of a page that is opened, and looked at for a while."""
    tab.open(url)
    ready = float(tab.evaluate("performance.now()")) / 1e3
    painted = float(tab.evaluate(_PAINTED)) / 1e3
    # What came before, with the first draw of everything, is no update.
    tab.until("performance.now() > 4000")
    tab.evaluate(_OBSERVE)
    before, received = _metrics(tab), tab.received
    began = time.monotonic()
    until = float(tab.evaluate("performance.now()")) + 1e3 * wanted
    tab.until(f"performance.now() > {until}")
    after, seconds = _metrics(tab), time.monotonic() - began
    seen = tab.evaluate("window.seen")
    updates = max(1, seen["updates"])
    return {
        "first paint, s": painted,
        "data shown, s": ready,
        "longest task, ms": seen["longest"],
        "longest update, ms": seen["update"],
        "scripts and layout of an update, ms": 1e3 * (after - before) / updates,
        "main thread busy, %": 100 * (after - before) / seconds,
        "kB/s": (tab.received - received) / seconds / 1e3,
        "elements": float(tab.evaluate("document.querySelectorAll('*').length")),
    }


def _take(feeder: Feeder) -> None:
    """Take results until the broker ends."""
    with contextlib.suppress(AssertionError, ConnectionError):
        feeder.take(1 << 40)


def _metrics(tab: Browser) -> float:
    """Return the seconds that the main thread has been busy."""
    found: list[dict[str, Any]] = tab.ask("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def main() -> int:
    """Print a row of figures for each page; return 1 if one is beyond what is promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.looking.dashboard", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="for which a page is looked at")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from harness.browser import browser

    found: dict[str, dict[str, float]] = {}
    with fleet(options.nodes) as (address, url), browser() as tab:
        feeder = Feeder(address)
        feeder.submit(_JOB, options.tasks)
        Thread(target=_take, args=(feeder,), daemon=True).start()
        tab.ask("Performance.enable")
        tab.size(1440, 900)
        for page in ("", "tasks", "jobs", f"job/{_JOB}", "nodes", "node/node-0-0", "events"):
            found[page or "overview"] = look(tab, f"{url}/#/{page}", options.seconds)
    if options.json:
        print(json.dumps(found))
    else:
        names = list(next(iter(found.values())))
        print("| page | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
        for page, figures in found.items():
            print(f"| {page} | " + " | ".join(f"{figures[name]:.3g}" for name in names) + " |")
    good = all(
        one["first paint, s"] <= _PAINT
        and max(one["longest task, ms"], one["longest update, ms"]) <= 1e3 * _UPDATE
        and one["kB/s"] <= _BYTES / 1e3
        for one in found.values()
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
