"""The load test itself: targets, clients, steps one after the other, and the document of it all."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psutil

from manyhands.loadtest import latency, ledger, mix, saturation, target
from manyhands.loadtest.clients import Clients
from manyhands.loadtest.monitor import Sampler
from manyhands.loadtest.plan import Step
from manyhands_shared import __version__
from manyhands_shared.clock import monotonic
from manyhands_shared.errors import ManyhandsError

DOCUMENT_VERSION = 1
#: A client process that is busier than this may be what was measured.
_BUSY = 0.9

Target = target.Target


@dataclass(frozen=True, slots=True)
class Plan:
    """A load test.

    Attributes:
        mix: see `mix.parse`.
        hosts: numbers of hosts of the test-bed, one run each; empty is `broker` or this machine.
        broker: address of a cluster; empty is one of this machine's own.
        key_file: of the cluster, or empty.
        connect_timeout: seconds within which that broker must be reached, and have a node.
        slots: of each node of a cluster that the load test starts; `None` is one for each core.
        clients: processes.
        rates: of open loops, tasks a second, one step each.
        concurrencies: of closed loops, one step each; 0 is full pressure. With neither, it ramps to
            saturation, or for several numbers of hosts does one step of full pressure each.
        warmup, seconds, stop_timeout, arrivals: of each step, see `Step`.
        seed: of everything random.
    """

    mix: str
    hosts: tuple[int, ...] = ()
    broker: str = ""
    key_file: str = ""
    connect_timeout: float = 10.0
    slots: int | None = None
    clients: int = 1
    rates: tuple[float, ...] = ()
    concurrencies: tuple[int, ...] = ()
    warmup: float = 1.0
    seconds: float = 5.0
    stop_timeout: float = 60.0
    arrivals: str = "poisson"
    seed: int = 1


class Listener:
    """Hears how far a load test is; this one does not care."""

    def target(self, label: str, nodes: int, slots: int) -> None:
        """A cluster is there."""

    def begin(self, step: Step) -> None:
        """A step begins."""

    def progress(self, figures: dict[str, Any]) -> None:
        """A client told how far it is."""

    def end(self, step: dict[str, Any]) -> None:
        """A step is over; `step` is as in the document."""


def run(plan: Plan, listener: Listener) -> dict[str, Any]:
    """Do it all; returns the document that reports are made of.

    Raises:
        ManyhandsError: it could not be done. Wrong answers are no error: they are in the document.
    """
    began, start = time.time(), monotonic()
    rounds = mix.calibrate()
    runs = [_run_target(plan, make, rounds, listener) for make in _targets(plan)]
    books = [step["book"] for each in runs for step in each["steps"]]
    whole = ledger.total(books)
    return {
        "version": DOCUMENT_VERSION,
        "kind": "manyhands loadtest",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "took": round(monotonic() - start, 1),
        "manyhands": __version__,
        "machine": _machine(),
        "plan": {
            "mix": plan.mix,
            "clients": plan.clients,
            "warmup": plan.warmup,
            "seconds": plan.seconds,
            "arrivals": plan.arrivals,
            "seed": plan.seed,
        },
        "runs": runs,
        "scaling": _scaling(runs),
        "book": whole,
        "problem": ledger.problem(whole),
        "notes": _notes(runs),
    }


def publish(plan: Plan, text: str) -> None:
    """Leave a report with the broker that was loaded, for its dashboard.

    Raises:
        ManyhandsError: the broker cannot be reached, or does not take it.
    """
    with (
        target.named(plan.broker, plan.key_file, plan.connect_timeout) as there,
        there.client() as asker,
    ):
        asker.query("report", text=text)


def _targets(plan: Plan) -> Iterator[Callable[[], AbstractContextManager[Target]]]:
    for count in plan.hosts:
        yield lambda count=count: target.hosts(count, plan.slots or 2)  # type: ignore[misc]
    if not plan.hosts:
        if plan.broker:
            yield lambda: target.named(plan.broker, plan.key_file, plan.connect_timeout)
        else:
            yield lambda: target.local(plan.slots)


def _run_target(
    plan: Plan,
    make: Callable[[], AbstractContextManager[Target]],
    rounds: float,
    listener: Listener,
) -> dict[str, Any]:
    with make() as there, there.client() as asker:
        try:  # a cluster that has only just been started is worth a moment
            asker.wait_for_nodes(1, plan.connect_timeout)
        except TimeoutError as error:
            raise ManyhandsError(str(error)) from None
        stats = asker.query("stats")
        listener.target(there.label, stats["nodes"], stats["slots"])
        setup = {
            "address": there.address,
            "key_file": there.key_file,
            "mix": plan.mix,
            "seed": plan.seed,
            "rounds_per_second": rounds,
        }
        with Clients(setup, plan.clients, there.place) as clients:
            sampler = Sampler(asker, there.broker_pid, clients.pids)
            steps: list[dict[str, Any]] = []
            while (step := _next_step(plan, steps)) is not None:
                listener.begin(step)
                steps.append(_run_step(step, clients, sampler, stats["slots"], listener))
                listener.end(steps[-1])
                if ledger.problem(steps[-1]["book"]):
                    break  # what comes after wrong answers says nothing
    return {
        "target": there.kind,
        "label": there.label,
        "hosts": there.hosts,
        "nodes": stats["nodes"],
        "slots": stats["slots"],
        "steps": steps,
        "saturation": max(step["throughput"] for step in steps),
        "sustained": saturation.sustained(_points(steps)),
    }


def _next_step(plan: Plan, done: list[dict[str, Any]]) -> Step | None:
    """What comes after the steps that are done."""
    common: dict[str, Any] = {
        "warmup": plan.warmup,
        "seconds": plan.seconds,
        "stop_timeout": plan.stop_timeout,
        "arrivals": plan.arrivals,
    }
    if plan.rates or plan.concurrencies:
        steps = [Step("closed", concurrency=number, **common) for number in plan.concurrencies]
        steps += [Step("open", rate=rate, **common) for rate in plan.rates]
        return steps[len(done)] if len(done) < len(steps) else None
    if not done:
        return Step("closed", **common)
    if len(plan.hosts) > 1:
        return None
    rate = saturation.next_rate(done[0]["throughput"], _points(done))
    return None if rate is None else Step("open", rate=rate, **common)


def _points(steps: list[dict[str, Any]]) -> list[saturation.Point]:
    """What open loops offered, and how much of it was done: of random arrivals, of those that came."""
    return [
        (step["offered"], step["offered"] * step["done"] / max(1, step["sent"] + step["unsent"]))
        for step in steps
        if step["loop"] == "open"
    ]


def _run_step(
    step: Step, clients: Clients, sampler: Sampler, slots: int, listener: Listener
) -> dict[str, Any]:
    start = clients.start(step, slots)
    begin = start + step.warmup
    sampler.start(start, begin, begin + step.seconds)
    try:
        results = clients.results(step, listener.progress)
    finally:
        seen = sampler.stop()
    whole = latency.merge(result["latency"] for result in results)
    names = list(results[0]["parts"])
    parts = {
        name: latency.summary(latency.merge(result["parts"][name] for result in results))
        for name in (names if len(names) > 1 else [])
    }
    done = sum(result["done"] for result in results)
    sent = sum(result["sent"] for result in results)
    unsent = sum(result["unsent"] for result in results)
    return {
        "loop": step.loop,
        "label": step.label,
        "offered": step.rate if step.loop == "open" else None,
        "concurrency": step.concurrency,
        "warmup": step.warmup,
        "seconds": step.seconds,
        "sent": sent,
        "unsent": unsent,
        "done": done,
        "throughput": done / step.seconds,
        "slope": sum(result["slope"] for result in results),
        "latency": latency.summary(whole),
        "hdr": whole,
        "parts": parts,
        "clients_busy": [round(result["busy"], 3) for result in results],
        "book": ledger.total([result["book"] for result in results]),
        **seen,
    }


def _scaling(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rates by number of hosts, against a line from nothing through the first; empty for one run.

    They are slopes, see `slope`: a sweep is mostly of sleeps, which end in waves.
    """
    if len(runs) < 2:
        return []
    rates = [max((step["slope"] for step in run["steps"]), default=0.0) for run in runs]
    each = rates[0] / runs[0]["slots"]
    return [
        {
            "hosts": run["hosts"],
            "slots": run["slots"],
            "throughput": rate,
            "linear": each * run["slots"],
            "efficiency": rate / (each * run["slots"]) if each else 0.0,
        }
        for run, rate in zip(runs, rates, strict=True)
    ]


def _notes(runs: list[dict[str, Any]]) -> list[str]:
    """What a reader has to know to take the figures for what they are."""
    notes = []
    steps = [step for each in runs for step in each["steps"]]
    if any(max(step["clients_busy"]) > _BUSY for step in steps):
        notes.append(
            "A client process used a whole core, so the highest figures may be the client's limit and "
            "not the cluster's. More --clients tell, if this machine has cores for them."
        )
    if any(each["target"] != "cluster" for each in runs):
        notes.append(
            "Clients, broker and nodes shared this machine's "
            f"{os.cpu_count()} cores: the figures are those of all together."
        )
    if any(step["unsent"] for step in steps):
        notes.append(
            "At the highest loads the clients could not send every task in time. Those that they did "
            "not send count in the latencies with the time that they had waited by the end."
        )
    return notes


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }
