"""Run seeds, or tell the story of one: `python -m simulation.coordination --seeds 1000`."""

from __future__ import annotations

import argparse
import sys

from simulation.coordination.broken import HARMS
from simulation.coordination.runs import failures, run
from simulation.failing_seeds import report


def main() -> int:
    """The command; 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="simulation.coordination", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--replay", type=int, help="tell what happens in this one")
    parser.add_argument("--harm", choices=HARMS, default="", help="break the software on purpose")
    parser.add_argument("--stop", type=int, default=20, help="stop after this number of failures")
    options = parser.parse_args()
    if options.replay is not None:
        run(options.replay, options.harm, lambda line: print(line, flush=True))
        return 0
    seeds = range(options.start, options.start + options.seeds)
    return report(failures(seeds, options.harm), options.seeds, options.stop)


if __name__ == "__main__":
    sys.exit(main())
