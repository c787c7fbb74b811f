"""Run the programs of the lecture notes on one host, then on two, and compare what they print.

    make lecture

The two hosts are network namespaces where that is allowed: as root, with iproute2. Elsewhere they are
two nodes of this machine that take each other for remote.
A program alone: python -m tools.lecture 14_queue
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tools.two_hosts import Place, best_two_hosts

FOLDER = Path(__file__).parents[1] / "examples" / "lecture"
#: How long a program may take.
_PROGRAM_SECONDS = 120.0
_NUMBER = r"\d+(\.\d+)?"
#: As `re.escape` leaves it.
_RANGE = re.compile(r"<(\d+)\\\.\\\.(\d+)>")

#: What a busy machine has a program say while its cluster starts.
_WAITS = "manyhands: no broker answers yet "
ALONE = Place("one host", {})

console = Console()


def main(names: Sequence[str]) -> int:
    """Run the programs that are named, else all; return an exit code."""
    programs = sorted(file for file in FOLDER.glob("*.py") if not names or file.stem in names)
    if not programs:
        print("no such program; their names are those of the files in examples/lecture")
        return 2
    alone = [run(program, ALONE) for program in programs]
    with best_two_hosts(slots=2) as hosts:
        together = [run(program, hosts) for program in programs]
    table = Table("program", ALONE.name, "seconds", hosts.name, "seconds")
    for program, one, two in zip(programs, alone, together, strict=True):
        table.add_row(program.stem, one[0], f"{one[1]:.1f}", two[0], f"{two[1]:.1f}")
    console.print(table)
    return int(any(said != "as expected" for said, _ in alone + together))


def expected(program: Path) -> re.Pattern[str]:
    """Return what a program prints.

    Numbers that differ each time are any, ``<number>``, or one of those that are promised, ``<2..9>``.
    """
    text = re.escape(program.with_suffix(".txt").read_text(encoding="utf-8"))
    return re.compile(_RANGE.sub(_one_of, text).replace("<number>", _NUMBER))


def _one_of(found: re.Match[str]) -> str:
    first, last = map(int, found.groups())
    return f"({'|'.join(map(str, range(first, last + 1)))})"


def run(program: Path, place: Place) -> tuple[str, float]:
    """Run a program there; return what to say of it, and its seconds."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MANYHANDS_")}
    # As on a terminal: what the root prints comes out at once.
    environment["PYTHONUNBUFFERED"] = "1"
    environment.update(place.variables)
    began = time.monotonic()
    try:
        with place.inside():
            done = subprocess.run(
                [sys.executable, str(program)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PROGRAM_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return "does not end", time.monotonic() - began
    seconds = time.monotonic() - began
    errors = [line for line in done.stderr.splitlines() if not line.startswith(_WAITS)]
    if errors or done.returncode:
        print(
            f"{program.stem}, {place.name}, ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return "fails", seconds
    if not expected(program).fullmatch(done.stdout):
        print(f"{program.stem}, {place.name}, printed:\n{done.stdout}")
        return "differs", seconds
    return "as expected", seconds


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
