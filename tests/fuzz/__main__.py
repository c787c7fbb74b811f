"""Throw odd messages of every role at a broker: `python -m fuzz --messages 200000 --seed 7`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from fuzz.storm import Storm


def main() -> int:
    """The command; an exception says what did not hold."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000, help="how many")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--restarts", type=int, default=10, help="how often the broker is killed")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Storm(Path(folder), options.seed) as storm:
        for part in range(options.restarts + 1):
            storm.rage(options.messages // (options.restarts + 1))
            broken = storm.broken
            print(
                f"{storm.sent} messages, {time.perf_counter() - began:.0f} s: alive, at most "
                f"{storm.most >> 20} MiB more than at first, {broken} failures inside",
                flush=True,
            )
            if broken:
                # What it says comes with the first of each kind.
                print("\n".join(line for line in storm.broker.log.splitlines() if " bug " in line))
                return 1
            if part < options.restarts:
                storm.restart()
    return 0


if __name__ == "__main__":
    sys.exit(main())
