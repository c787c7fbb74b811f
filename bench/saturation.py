"""The load test's saturation beside what `bench` measures, in turns, on a machine of its own.

    python -m bench.saturation

Both submit no-op tasks from one process to one node with a slot for each of `WORKERS`. The benchmark
hands in all at once and then takes every result; the load test keeps the cluster under full pressure
and checks every answer. They must agree: the load test's figure is worth nothing if it measures itself.

The benchmark compares medians. Both vary by a third from one time to the next on a machine that has
other work to do. The single values are on stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from bench.peers import WORKERS
from bench.reporting.results import OURS

_STEP_SECONDS = 2
#: How far they may be apart.
BOUND = 0.10


def main() -> int:
    """Print both and their ratio; exit code 1 if they are further apart than `BOUND`."""
    parser = argparse.ArgumentParser(prog="python -m bench.saturation", description=__doc__)
    parser.add_argument("--repeats", type=int, default=6)
    repeats = parser.parse_args().repeats
    benched, loaded = [], []
    for repeat in range(repeats):
        benched.append(bench())
        loaded.append(loadtest())
        print(
            f"{repeat + 1} of {repeats}: bench {benched[-1]:,.0f}, load test {loaded[-1]:,.0f}",
            file=sys.stderr,
        )
    print("| no-op tasks/s | best | median |")
    print("|---|---:|---:|")
    for name, figures in (("`bench`", benched), ("`manyhands loadtest`", loaded)):
        print(f"| {name} | {max(figures):,.0f} | {statistics.median(figures):,.0f} |")
    best = max(loaded) / max(benched)
    median = statistics.median(loaded) / statistics.median(benched)
    print(f"| ratio | {best:.3f} | {median:.3f} |")
    return 0 if abs(median - 1) <= BOUND else 1


def bench() -> float:
    """Tasks a second of the measure ``noop``."""
    return float(_json("-m", "bench.measures", OURS, "noop")["figures"]["no-op tasks/s"])


def loadtest() -> float:
    """The most tasks a second that a load test sees."""
    options = ["--concurrency", "0", "--duration", f"{_STEP_SECONDS}s", "--slots", str(WORKERS)]
    found = _json("-m", "manyhands.cli", "loadtest", *options, "--json")
    return float(found["runs"][0]["saturation"])


def _json(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
