"""Runs every measure of every system in turn, repeat by repeat; prints medians and ratios.

Needs the standard library alone: each system runs in an environment of its own, made on first use.
What was measured is written down after each step: a run that is ended early leaves what it had.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from bench import child, environments
from bench.measures import GROUPS, MEASURES, START
from bench.peers import PEERS, WORKERS
from bench.reporting import publish
from bench.reporting.report import markdown
from bench.reporting.results import OURS, Run

#: What `--quick` runs: two minutes.
_QUICK_SYSTEMS = (
    "manyhands",
    "manyhands, keyed",
    "multiprocessing.Pool",
    "Ray",
    "Dask distributed",
)
_QUICK_MEASURES = ("roundtrip", "noop", "map", "executor_map", "results", "argument")
_ANSWER_SECONDS, _LIMITS_SECONDS, _SCALE_SECONDS = 60.0, 60.0, 240.0
_INTERRUPTED = 130


def main() -> int:
    """Measure; print markdown; write JSON and a chart. Returns an exit code."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    systems = options.systems or list(_QUICK_SYSTEMS if options.quick else PEERS)
    measures = options.measures or list(_QUICK_MEASURES if options.quick else MEASURES)
    run = Run(
        systems,
        options.repeats or (1 if options.quick else 3),
        environment(),
        {name: PEERS[name].settings for name in systems},
    )
    run.left_out = left_out(systems, measures)
    try:
        prepare(run)
        if options.install:
            print("\n".join(f"{name}: {reason}" for name, reason in run.missing.items()))
            return 0
        options.output.mkdir(parents=True, exist_ok=True)
        document = options.output / "bench.json"
        began = time.monotonic()
        try:
            for step in steps(run, measures, scale=not (options.quick or options.measures)):
                run.seconds = time.monotonic() - began
                run.save(document)
                note(f"{run.seconds:.0f} s: {step}")
            run.complete = True
        finally:
            run.save(document)
            print(markdown(run))
            publish.draw(run, options.output / "bench.svg")
            note(f"{run.seconds / 60:.1f} minutes; {document} has every value")
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0 if OURS not in run.missing else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some systems and measures, once")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--systems", nargs="*", choices=list(PEERS))
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES))
    parser.add_argument("--install", action="store_true", help="make the environments, no more")
    parser.add_argument("--output", type=Path, default=Path("out"))
    return parser


def prepare(run: Run) -> None:
    """Install every system, and note which cannot be."""
    for name in run.systems:
        note(f"environment of {name}")
        problem = environments.prepare(name)
        if problem:
            run.missing[name] = problem
            note(f"{name}: {problem}")


def steps(run: Run, measures: list[str], *, scale: bool) -> Iterator[str]:
    """Measure the machine's limits, systems in turn, and the scale; after each step, what it was."""
    if OURS in run.present:
        run.limits = ours(run, "limits", "bench.limits", _LIMITS_SECONDS)
        yield "the machine's limits"
    groups = [[name for name in group if name in measures] for group in GROUPS]
    for repeat in range(run.repeats):
        for group in filter(None, groups):
            for name in run.present:
                measured(run, name, group)
                yield f"repeat {repeat + 1} of {run.repeats}: {name}: {', '.join(group)}"
    if scale and OURS in run.present:
        run.backlog = ours(run, "backlog", "bench.backlog", _SCALE_SECONDS)
        yield "a long queue"
        run.fleet = ours(run, "fleet", "bench.fleet", _SCALE_SECONDS)
        yield "simulated fleets"


def measured(run: Run, name: str, group: list[str]) -> None:
    """Add the figures of a group of measures of one system to `run`, or why there are none.

    A measure that failed is not tried again; those behind it are, in a fresh process.
    """
    failed = run.failures.setdefault(name, {})
    rest = [measure for measure in group if measure not in failed]
    while rest and START not in failed:
        waiting = [START, *rest]
        arguments = ["-m", "bench.measures", name, *rest]
        python = environments.python(name)
        try:
            for answer in child.answers(python, arguments, _ANSWER_SECONDS, len(waiting)):
                waiting.remove(answer["measure"])
                run.add(name, answer.get("figures", {}))
                run.versions.setdefault(name, answer.get("versions", {}))
                if "failure" in answer:
                    failed[answer["measure"]] = answer["failure"]
        except child.Failure as error:
            failed[waiting.pop(0)] = str(error)
        for measure in failed.keys() & {START, *rest}:
            note(f"{name}: {measure}: {failed[measure]}")
        rest = waiting
    if START in failed and not run.figures[name]:
        run.missing[name] = failed[START]
    if not failed:
        del run.failures[name]


def ours(run: Run, what: str, module: str, seconds: float) -> dict[str, Any]:
    """The JSON of another benchmark, of manyhands alone; nothing, and why, if it fails."""
    try:
        return child.answer(environments.python(OURS), ["-m", module, "--json"], seconds)
    except child.Failure as error:
        note(f"{what}: {error}")
        run.failures.setdefault(OURS, {})[what] = str(error)
        return {}


def left_out(systems: list[str], measures: list[str]) -> str:
    """What a run does not measure of what could be."""
    gone = [name for name in PEERS if name not in systems]
    gone += [f"the measure {name}" for name in MEASURES if name not in measures]
    return f"Left out: {', '.join(gone)}." if gone else ""


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    commit = ""
    if shutil.which("git"):
        command = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "workers": WORKERS,
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "load before": os.getloadavg()[0],
        "commit": commit.strip(),
    }


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def note(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
