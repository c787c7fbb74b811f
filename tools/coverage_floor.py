"""Hold the coverage of the last `make coverage` against its floor, which only rises.

    python tools/coverage_floor.py          fail if the coverage lies below the floor
    python tools/coverage_floor.py --raise  write the floor anew, a little below the coverage

Runs differ by some tenths: processes are killed at random moments, and take with them what they
have not written yet. So the floor stays `SLACK` percent below what was measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FLOOR = Path("tools/coverage-floor.txt")
SLACK = 0.5


def measured() -> float:
    """Return the percentage of lines and branches that ran."""
    command = [sys.executable, "-m", "coverage", "report", "--format=total", "--precision=2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main(arguments: list[str]) -> int:
    """Check or raise; returns an exit code."""
    floor, now = float(FLOOR.read_text(encoding="utf-8")), measured()
    if arguments == ["--raise"]:
        floor = max(floor, round(now - SLACK, 1))
        FLOOR.write_text(f"{floor:.1f}\n", encoding="utf-8")
    print(f"coverage: {now:.2f} %, floor: {floor:.1f} %")
    if now < floor:
        print("Lines or branches that ran before do not run any more: write tests that run them.")
        return 1
    if now > floor + 3 * SLACK:
        print("The floor can rise: python tools/coverage_floor.py --raise")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
