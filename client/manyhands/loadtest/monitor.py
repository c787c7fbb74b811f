"""Looking at cluster and machine while a step runs: queue depth, CPU, and what each node did."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psutil

from manyhands import Client
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.processes.thread_start import must_start

_INTERVAL_SECONDS = 0.25
#: Samples of a step that are kept; beyond it every second one goes and the interval doubles.
_MOST_SAMPLES = 400


class Sampler:
    """Samples in a thread, from `start` to `stop`.

    Args:
        client: asks the broker.
        broker_pid: of the broker, if it is on this machine; 0 else.
        client_pids: of the load test's clients.
    """

    def __init__(self, client: Client, broker_pid: int, client_pids: list[int]) -> None:
        self._client = client
        self._broker = _find([broker_pid] if broker_pid else [])
        self._clients = _find(client_pids)
        self._samples: list[dict[str, float]] = []
        self._interval = _INTERVAL_SECONDS
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: dict[str, dict[str, Any]] = {}
        self._window = (0.0, 0.0)
        self._figures: dict[str, Any] = {}

    def start(self, zero: float, begin: float, end: float) -> None:
        """Look at a step that starts at `zero` and is measured from `begin` to `end` (monotonic).

        Raises:
            OSError: the system gives no thread.
        """
        self._samples, self._interval = [], _INTERVAL_SECONDS
        self._before, self._figures = {}, {"nodes": []}
        self._window = begin, end
        self._stopped.clear()
        thread = threading.Thread(
            target=self._run, args=(zero,), name="manyhands-monitor", daemon=True
        )
        must_start(thread)
        self._thread = thread

    def stop(self) -> dict[str, Any]:
        """What was seen: `samples` over time, and the `nodes` with the tasks of the window each."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        return {**self._figures, "samples": self._samples}

    def _run(self, zero: float) -> None:
        cpu = _Cpu(self._broker, self._clients)
        begin, end = self._window
        looks = [(begin, self._look_before), (end, self._look_after)]
        due = zero + self._interval
        while not self._stopped.is_set():
            now = time.monotonic()
            if looks and now >= looks[0][0]:
                with suppress(ManyhandsError, TimeoutError):
                    looks.pop(0)[1]()
            if now >= due:
                due = now + self._interval
                with suppress(
                    ManyhandsError, TimeoutError
                ):  # the step itself will say what is wrong
                    self._sample(now - zero, cpu)
            soon = min([due, *(at for at, _ in looks)])
            self._stopped.wait(max(0.0, soon - time.monotonic()))
        if looks and time.monotonic() >= end:  # the step was over before this thread's turn came
            with suppress(ManyhandsError, TimeoutError):
                self._look_after()
        if not self._samples:
            with suppress(ManyhandsError, TimeoutError):
                self._sample(time.monotonic() - zero, cpu)

    def _sample(self, at: float, cpu: _Cpu) -> None:
        stats = self._client.query("stats")
        self._samples.append(
            {
                "at": round(at, 3),
                "queued": stats["queued"],
                "active": stats["active"],
                **cpu.since_last(),
            }
        )
        if len(self._samples) > _MOST_SAMPLES:
            del self._samples[1::2]
            self._interval *= 2

    def _look_before(self) -> None:
        self._before = {node["boot_id"]: node for node in self._client.query("nodes")}

    def _look_after(self) -> None:
        nodes = []
        for node in self._client.query("nodes"):
            before = self._before.get(node["boot_id"], {})
            done = int(node["done"]) - int(before.get("done", 0))
            nodes.append(
                {
                    "name": node["name"],
                    "slots": node["slots"],
                    "done": done,
                    "cpu": node.get("cpu"),
                }
            )
        whole = sum(node["done"] for node in nodes) or 1
        for node in nodes:
            node["share"] = node["done"] / whole
        self._figures["nodes"] = sorted(nodes, key=lambda node: _natural(str(node["name"])))


class _Cpu:
    """CPU since it was last asked: the machine's as a share of all cores, processes' in cores."""

    def __init__(self, broker: list[psutil.Process], clients: list[psutil.Process]) -> None:
        self._groups = {"broker": broker, "clients": clients}
        self._last = (time.monotonic(), dict.fromkeys(self._groups, 0.0))
        psutil.cpu_percent()
        self.since_last()

    def since_last(self) -> dict[str, float]:
        now = time.monotonic()
        used = {name: sum(map(_used, group)) for name, group in self._groups.items()}
        then, before = self._last
        self._last = now, used
        passed = max(now - then, 1e-3)
        shares = {
            f"cpu_{name}": round((used[name] - before[name]) / passed, 3)
            for name, group in self._groups.items()
            if group
        }
        return {"cpu_machine": psutil.cpu_percent() / 100, **shares}


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _find(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def _natural(name: str) -> tuple[str, int]:
    """So that node-10 comes behind node-9."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0)
