"""Runs the measures of every peer in turn, repeat by repeat, and prints medians and ratios."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.measures import MEASURES
from bench.peers import PEERS, WORKERS

QUICK = ("noop", "map", "roundtrip", "results")
#: Figures of which less is better.
LESS = ("p50", "p99", "CPU", "seconds", "%", "PSS", "first")
PACKAGES = ("manyhands", "pyzmq", "msgpack", "numpy", "loky", "distributed")
OURS = "manyhands"

Figures = dict[tuple[str, str], list[float]]


def main() -> int:
    """Measure, print a markdown table, write JSON; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main measures, once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES))
    parser.add_argument("--output", type=Path, default=Path("out/bench.json"))
    arguments = parser.parse_args()
    measures = arguments.measures or (QUICK if arguments.quick else list(MEASURES))
    repeats = 1 if arguments.quick else arguments.repeats
    found: dict[str, Figures] = {name: {} for name in arguments.peers}
    failed: dict[str, str] = {}
    for repeat in range(repeats):
        for measure in measures:
            for name in arguments.peers:
                if name in failed:
                    continue
                note(f"repeat {repeat + 1} of {repeats}: {measure}, {name}")
                figures = run(name, measure)
                if isinstance(figures, str):
                    failed[name] = figures
                    continue
                for figure, value in figures.items():
                    key = ("start", figure) if figure == "first result s" else (measure, figure)
                    found[name].setdefault(key, []).append(value)
    report(found, failed, repeats)
    save(arguments.output, found, failed)
    return 0 if OURS not in failed else 1


def run(name: str, measure: str) -> dict[str, float] | str:
    """The figures of one measure in a process of its own, or why there are none."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.measures", name, measure],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def report(found: dict[str, Figures], failed: dict[str, str], repeats: int) -> None:
    """Print medians, and in brackets how many times better manyhands is."""
    peers = [name for name in found if name not in failed]
    print(f"\n{WORKERS} workers, medians of {repeats}; in brackets: times better manyhands is\n")
    print("| figure | " + " | ".join(peers) + " |")
    print("|---|" + "---|" * len(peers))
    for key in {key: None for name in peers for key in found[name]}:
        cells = []
        ours = found.get(OURS, {}).get(key)
        for name in peers:
            values = found[name].get(key)
            if not values:
                cells.append("")
                continue
            text = f"{statistics.median(values):,.4g}"
            if ours and name != OURS:
                text += f" ({ratio(key, statistics.median(ours), statistics.median(values)):.2f})"
            cells.append(text)
        print(f"| {key[0]}: {key[1]} | " + " | ".join(cells) + " |")
    for name, reason in failed.items():
        print(f"\n{name} could not be measured: {reason}")
    print(f"\n{environment()}")


def ratio(key: tuple[str, str], ours: float, theirs: float) -> float:
    """How many times better `ours` is."""
    less = any(word in key[1] for word in LESS)
    top, bottom = (theirs, ours) if less else (ours, theirs)
    return top / bottom if bottom else float("inf")


def environment() -> str:
    """Versions and machine in one line."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, " + ", ".join(versions)


def save(path: Path, found: dict[str, Figures], failed: dict[str, str]) -> None:
    """Write every single value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": 1,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "failed": failed,
        "figures": {
            name: {": ".join(key): values for key, values in figures.items()}
            for name, figures in found.items()
        },
    }
    path.write_text(json.dumps(document, indent=1))
    note(f"every value is in {path}")


def note(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
