"""What manyhands is meant to reach, and whether it did in a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.measures import FIRST, TRIPS
from bench.peers import PEERS
from bench.reporting.results import OURS, Run, less_is_better

POOL, RAY = "multiprocessing.Pool", "Ray"
OTHERS = [name for name, peer in PEERS.items() if not peer.ours]
NETWORKED = [name for name in OTHERS if PEERS[name].networked]
_RATE, _MAP, _EXECUTOR_MAP = (
    "no-op tasks/s",
    "map of 1,000,000, items/s",
    "Executor.map of 1,000,000, items/s",
)
_P50, _P99 = "round trip p50, ms", "round trip p99, ms"
#: Of the best networked system's p50: 0.30 and 0.8 ms where that is 1.1 ms.
_LONE, _LONE_WORST = 0.30 / 1.1, 0.8 / 1.1
_PER_TASK = "long queue: broker's CPU per task, µs"  # `fleet.PER_TASK`; that takes more to load


@dataclass(frozen=True)
class Verdict:
    """One target and what came of it."""

    target: str
    found: str
    #: `None` where a figure is missing.
    met: bool | None


def verdicts(run: Run) -> list[Verdict]:
    """Every target, in the order in which they are promised."""
    return [*_rates(run), *_latencies(run), *_data(run), *_small(run), *_scale(run)]


def _rates(run: Run) -> Iterator[Verdict]:
    yield _against(run, "no-op tasks/s: 3 x `multiprocessing.Pool`", _RATE, [POOL], 3.0)
    yield _against(run, "no-op tasks/s: 45 x the best networked system", _RATE, NETWORKED, 45.0)
    yield _against(run, "`Pool.map`: 1 x `multiprocessing.Pool.map`", _MAP, [POOL], 1.0)
    ours, pool = run.median(OURS, _EXECUTOR_MAP), run.median(POOL, _MAP)
    found = ours / pool if ours and pool else None
    yield _least("`Executor.map` against `multiprocessing.Pool.map`", found, 1.0, " x")
    yield _most(run, "CPU per tracked task", "CPU per task, µs", 15.0, " µs")


def _latencies(run: Run) -> Iterator[Verdict]:
    yield _most(run, "lone round trip, p50", _P50, 0.30, " ms")
    yield _most(run, "lone round trip, p99", _P99, 0.80, " ms")
    best = run.best(_P50, NETWORKED)
    for name, figure, share in (("p50", _P50, _LONE), ("p99", _P99, _LONE_WORST)):
        ours = run.median(OURS, figure)
        yield _upper(
            f"lone round trip, {name}: of the best networked system's p50",
            ours / best[0] if ours and best else None,
            share,
        )
    yield _most(run, "task of a chain", TRIPS, 1.5, " lone round trips")


def _data(run: Run) -> Iterator[Verdict]:
    for size in (1, 16, 128):
        what = f"{size} MB results: 1 x the best"
        yield _against(run, what, f"{size} MB results, MB/s", OTHERS, 1.0)
    yield _against(
        run, "64 MB argument x 100 tasks: 1 x Ray", "64 MB argument x 100 tasks, s", [RAY], 1.0
    )
    what = "diamond of 64 MB arrays: 1 x the best"
    yield _against(run, what, "diamond of 64 MB arrays, s", OTHERS, 1.0)


def _small(run: Run) -> Iterator[Verdict]:
    yield _most(run, "first result from nothing", FIRST, 0.6, " s")
    yield _most(run, "idle CPU", "idle CPU, % of a core", 0.5, " %")
    yield _most(run, "idle memory (PSS)", "idle memory, PSS MB", 120.0, " MB")
    share = run.median(OURS, "sleep(0.05) x 64, of ideal")
    yield _least("sleep(0.05) x 64 on two slots, of the ideal", share, 0.97)


def _scale(run: Run) -> Iterator[Verdict]:
    yield _least("rate with 1,000,000 queued against 10,000", run.backlog.get("rate"), 0.95)
    memory = run.backlog.get("bytes beside the payload")
    yield _upper("memory of a queued task beside its payload", memory, 200.0, " B")
    costs = {int(nodes): found.get(_PER_TASK) for nodes, found in run.fleet.items()}
    one = costs.get(1)
    for nodes in sorted(count for count in costs if count > 1):
        cost = costs[nodes]
        yield _upper(
            f"broker's cost per task with {nodes:,} nodes against 1",
            cost / one if cost and one else None,
            1.2,
            " x",
        )


def _against(run: Run, what: str, figure: str, others: list[str], least: float) -> Verdict:
    best, ours = run.best(figure, others), run.median(OURS, figure)
    if not best or not ours:
        return Verdict(what, "not measured", None)
    ratio = best[0] / ours if less_is_better(figure) else ours / best[0]
    who = f" ({best[1]})" if len(others) > 1 else ""
    return Verdict(what, f"{ratio:.3g} x{who}", ratio >= least)


def _most(run: Run, what: str, figure: str, most: float, unit: str) -> Verdict:
    return _upper(what, run.median(OURS, figure), most, unit)


def _upper(what: str, found: float | None, most: float, unit: str = "") -> Verdict:
    what = f"{what}: at most {most:.3g}{unit}"
    if found is None:
        return Verdict(what, "not measured", None)
    return Verdict(what, f"{found:.3g}{unit}", found <= most)


def _least(what: str, found: float | None, least: float, unit: str = "") -> Verdict:
    what = f"{what}: at least {least:.3g}{unit}"
    if found is None:
        return Verdict(what, "not measured", None)
    return Verdict(what, f"{found:.3g}{unit}", found >= least)
