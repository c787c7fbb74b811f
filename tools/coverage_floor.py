"""Hold the coverage of the last `make coverage-cores` or `make coverage-processes` against its floors.

    python tools/coverage_floor.py cores              fail if a package lies below its floor
    python tools/coverage_floor.py processes --raise  write the floors anew, a little below the coverage

Each package has a floor of its own, so that none lives on the tests of the others. A floor only rises:
one that is lower than in an earlier commit fails too. It stays a little below its measure, for two runs
differ, most of all where processes are killed. Each version of Python compiles branches in its own way,
so the floors are held with one of them alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: Percent between a measure and its floor.
SLACK = {"cores": 0.5, "processes": 1.5}
#: The version that the floors are for.
PYTHON = (3, 11)


def measured(config: Path, packages: Iterable[str]) -> dict[str, float]:
    """Return the percentage of lines and branches that ran, by package."""
    command = [sys.executable, "-m", "coverage", "json", f"--rcfile={config}", "-q", "-o", "-"]
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


def read(text: str) -> dict[str, float]:
    """Return the floors that a file says, by package."""
    return {package: float(floor) for package, floor in map(str.split, text.splitlines())}


def highest(path: Path) -> dict[str, float]:
    """Return the highest floor that any commit has had, by package; nothing outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    found: dict[str, float] = {}
    for commit in git("log", "--format=%H", "--diff-filter=AM", "--", str(path)).split():
        for package, floor in read(git("show", f"{commit}:./{path}")).items():
            found[package] = max(floor, found.get(package, 0.0))
    return found


def main(arguments: list[str]) -> int:
    """Check or raise; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python tools/coverage_floor.py")
    parser.add_argument("of", choices=sorted(SLACK))
    parser.add_argument("--raise", dest="to_raise", action="store_true")
    options = parser.parse_args(arguments)
    path, slack = Path(f"tools/coverage-{options.of}.txt"), SLACK[options.of]
    floors = read(path.read_text(encoding="utf-8"))
    now = measured(path.with_suffix(".toml"), floors)
    if options.to_raise:
        floors = {
            package: max(floor, round(now[package] - slack, 1)) for package, floor in floors.items()
        }
        text = "".join(f"{package} {floor:.1f}\n" for package, floor in floors.items())
        path.write_text(text, encoding="utf-8")
    for package, floor in floors.items():
        print(f"{package}: {now[package]:.2f} %, floor {floor:.1f} %")
    once = highest(path)
    if lowered := [one for one, floor in floors.items() if floor < once.get(one, 0.0)]:
        was = ", ".join(f"{package} was {once[package]:.1f}" for package in lowered)
        print(f"A floor only rises: write tests instead: {was}")
        return 1
    below = [package for package, floor in floors.items() if now[package] < floor]
    if below and sys.version_info[:2] != PYTHON:
        print("the floors are for Python {}.{}, and this is another".format(*PYTHON))
    elif below:
        print(
            f"Lines or branches that ran before do not run any more: write tests: {', '.join(below)}"
        )
        return 1
    if any(now[package] > floor + 3 * slack for package, floor in floors.items()):
        print(f"Floors can rise: python tools/coverage_floor.py {options.of} --raise")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
