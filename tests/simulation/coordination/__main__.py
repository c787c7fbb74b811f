"""Run seeds, or tell the story of one: `python -m simulation.coordination --seeds 1000`."""

from __future__ import annotations

import argparse
import sys
import time

from simulation.coordination.broken import HARMS
from simulation.coordination.runs import failures, run


def main() -> int:
    """The command; 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="simulation.coordination", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--replay", type=int, help="tell what happens in this one")
    parser.add_argument("--harm", choices=HARMS, default="", help="break the software on purpose")
    parser.add_argument("--stop", type=int, default=20, help="stop after so many failures")
    options = parser.parse_args()
    if options.replay is not None:
        run(options.replay, options.harm, lambda line: print(line, flush=True))
        return 0
    began, count = time.perf_counter(), 0
    for seed, text in failures(range(options.start, options.start + options.seeds), options.harm):
        print(f"seed {seed}: {text}", flush=True)
        count += 1
        if count >= options.stop:
            break
    seconds = time.perf_counter() - began
    print(f"{count} failures; {options.seeds} seeds in {seconds:.1f} s", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
