"""Run seeds, or tell the story of one: `python -m simulation --seeds 10000`, `--replay 17`."""

from __future__ import annotations

import argparse
import sys
import traceback

from simulation.broken import HARMS
from simulation.failing_seeds import report
from simulation.runs import failures, run
from simulation.story import Story


def main() -> int:
    """The command; 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--replay", type=int, help="tell what happens in this one")
    parser.add_argument("--task", default="", help="with --replay: only this one, as j0/3")
    parser.add_argument("--harm", choices=HARMS, default="", help="break the software on purpose")
    parser.add_argument("--stop", type=int, default=20, help="stop after this number of failures")
    options = parser.parse_args()
    if options.replay is not None:
        return _replay(options.replay, options.harm, options.task)
    seeds = range(options.start, options.start + options.seeds)
    return report(failures(seeds, options.harm), options.seeds, options.stop)


def _replay(seed: int, harm: str, task: str) -> int:
    def tell() -> None:
        job, _, index = task.partition("/")
        print("\n".join(story.of_task(job, int(index))) if task else story)

    story = Story()
    try:
        run(seed, harm, story)
    except Exception as error:  # noqa: BLE001 - shown to the caller
        tell()
        traceback.print_exc()
        print(f"seed {seed} fails: {error}", file=sys.stderr)
        return 1
    tell()
    print(f"seed {seed} holds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
