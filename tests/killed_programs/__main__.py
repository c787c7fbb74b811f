"""Kill the parts of a cluster that runs an array of programs: `python -m killed_programs --runs 5`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from harness.cluster.bench import Bench
from harness.cluster.killed_array import moments, run_killed_array

_SECONDS = 600.0


def main() -> int:
    """The command; an exception says what did not hold."""
    parser = argparse.ArgumentParser(prog="killed_programs", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="of each array")
    parser.add_argument("--runs", type=int, default=5, help="each has a seed of its own")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="the first")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.runs):
        kills = moments(options.tasks, seed)
        told = ", ".join(f"{part} at {count}" for count, part in kills)
        print(f"seed {seed}: {options.tasks} tasks, killed: {told}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            with bench.stack:
                run_killed_array(bench, Path(folder), options.tasks, kills, _SECONDS)
        print(f"each ran, none is told twice: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
