"""Hold the coverage of the last `make coverage-cores` against its floors, which only rise.

    python tools/coverage_floor.py          fail if a package lies below its floor
    python tools/coverage_floor.py --raise  write the floors anew, a little below the coverage

Each package has a floor of its own, so that none lives on the tests of the others. A floor stays `SLACK`
percent below its measure. Each version of Python compiles branches in its own way, so the floors are
held with one of them alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

CONFIG, FLOORS = Path("tools/coverage-cores.toml"), Path("tools/coverage-floors.txt")
SLACK = 0.5
#: The version that the floors are for.
PYTHON = (3, 11)


def measured(packages: Iterable[str]) -> dict[str, float]:
    """Return the percentage of lines and branches that ran, by package."""
    command = [sys.executable, "-m", "coverage", "json", f"--rcfile={CONFIG}", "-q", "-o", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    files = json.loads(done.stdout)["files"]
    found = {}
    for package in packages:
        place = f"/{package.replace('.', '/')}/"
        of_it = [data["summary"] for name, data in files.items() if place in f"/{name}"]
        ran = sum(one["covered_lines"] + one["covered_branches"] for one in of_it)
        there = sum(one["num_statements"] + one["num_branches"] for one in of_it)
        found[package] = 100 * ran / there if there else 0.0
    return found


def main(arguments: list[str]) -> int:
    """Check or raise; returns an exit code."""
    lines = FLOORS.read_text(encoding="utf-8").splitlines()
    floors = {package: float(floor) for package, floor in map(str.split, lines)}
    now = measured(floors)
    if arguments == ["--raise"]:
        floors = {
            package: max(floor, round(now[package] - SLACK, 1)) for package, floor in floors.items()
        }
        text = "".join(f"{package} {floor:.1f}\n" for package, floor in floors.items())
        FLOORS.write_text(text, encoding="utf-8")
    below = [package for package, floor in floors.items() if now[package] < floor]
    for package, floor in floors.items():
        print(f"{package}: {now[package]:.2f} %, floor {floor:.1f} %")
    if below and sys.version_info[:2] != PYTHON:
        print("the floors are for Python {}.{}, and this is another".format(*PYTHON))
    elif below:
        print(
            f"Lines or branches that ran before do not run any more: write tests: {', '.join(below)}"
        )
        return 1
    if any(now[package] > floor + 3 * SLACK for package, floor in floors.items()):
        print("Floors can rise: python tools/coverage_floor.py --raise")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
