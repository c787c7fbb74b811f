"""Runs every measure of every system in turn, repeat by repeat; prints medians and ratios.

Needs the standard library alone: each system runs in an environment of its own, made on first use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import chart, environments, report
from bench.measures import MEASURES
from bench.peers import PEERS, WORKERS
from bench.report import OURS, Run

#: What `--quick` runs: two minutes.
QUICK_SYSTEMS = ("manyhands", "multiprocessing.Pool", "Dask distributed", "Ray")
QUICK_MEASURES = ("noop", "roundtrip", "map", "results")
_MEASURE_SECONDS = 120
_CLOSE_SECONDS = 5
#: How often in a row a system may fail before it is given up.
_PATIENCE = 2


def main() -> int:
    """Measure; print a markdown table; write JSON and a chart. Returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some systems and measures, once")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--systems", nargs="*", choices=list(PEERS))
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES))
    parser.add_argument("--install", action="store_true", help="make the environments, no more")
    parser.add_argument("--output", type=Path, default=Path("out"))
    options = parser.parse_args()
    systems = options.systems or list(QUICK_SYSTEMS if options.quick else PEERS)
    measures = options.measures or list(QUICK_MEASURES if options.quick else MEASURES)
    run = Run(systems, options.repeats or (1 if options.quick else 3), environment())
    for name in systems:
        note(f"environment of {name}")
        problem = environments.prepare(name)
        if problem:
            run.missing[name] = problem
    if options.install:
        print("\n".join(f"{name}: {reason}" for name, reason in run.missing.items()))
        return 0
    run.limits = limits()
    for repeat in range(run.repeats):
        for measure in measures:
            for name in run.present:
                note(f"repeat {repeat + 1} of {run.repeats}: {measure}, {name}")
                measured(run, name, measure)
    print(report.markdown(run))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "bench.json").write_text(json.dumps(run.document(), indent=1))
    (options.output / "bench.svg").write_text(chart.svg(run))
    note(f"every value is in {options.output}/bench.json, a chart in {options.output}/bench.svg")
    return 0 if OURS not in run.missing else 1


def measured(run: Run, name: str, measure: str) -> None:
    """Add the figures of one measure on one system to `run`, or why there are none."""
    answer = child(environments.python(name), ["-m", "bench.measures", name, measure])
    if isinstance(answer, str):
        run.failures.setdefault(name, {})[measure] = answer
        note(f"{name}, {measure}: {answer}")
        if not run.figures[name] and len(run.failures[name]) >= _PATIENCE:
            run.missing[name] = answer
        return
    run.versions[name] = answer["versions"]
    for figure, value in answer["figures"].items():
        run.figures[name].setdefault(figure, []).append(value)


def limits() -> dict[str, float]:
    """The machine's own limits; nothing if they cannot be measured."""
    problem = environments.prepare(OURS)
    if problem:
        return {}
    note("the machine's limits")
    answer = child(environments.python(OURS), ["-m", "bench.limits", "--json"])
    return {} if isinstance(answer, str) else answer


def child(
    python: Path, arguments: list[str], seconds: float = _MEASURE_SECONDS
) -> dict[str, Any] | str:
    """The JSON that an interpreter prints last, or why there is none. Nothing of it stays behind."""
    process = subprocess.Popen(
        [python, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "PYTHONWARNINGS": "ignore",
            # Some start programs of their own by name.
            "PATH": os.pathsep.join((str(python.parent.absolute()), os.environ.get("PATH", ""))),
        },
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"no answer within {seconds:g} s"
    _end(process)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        return next(iter(reversed(err.strip().splitlines())), f"exit code {process.returncode}")
    return dict(json.loads(lines[-1]))


def _end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of its group: a system that failed may leave servers behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that left the group may still hold the pipes: they are closed here, whoever writes there.
    with contextlib.suppress(subprocess.TimeoutExpired), process:
        process.communicate(timeout=_CLOSE_SECONDS)


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "workers": WORKERS,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load before": os.getloadavg()[0],
    }


def note(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
