"""Run the programs of the lecture notes on one host, then on two, and compare what they print.

    make lecture

The two hosts are network namespaces where that is allowed: as root, with iproute2. Elsewhere they are
two nodes of this machine that take each other for remote.
A program alone: python -m tools.lecture 14_queue
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from tools.lecture.programs import ALONE, FOLDER, run
from tools.two_hosts import best_two_hosts


def main(names: Sequence[str]) -> int:
    """Run the programs that are named, else all; return an exit code."""
    programs = sorted(file for file in FOLDER.glob("*.py") if not names or file.stem in names)
    if not programs:
        print("no such program; their names are those of the files in examples/lecture")
        return 2
    alone = [run(program, ALONE) for program in programs]
    with best_two_hosts(slots=2) as hosts:
        spread = [run(program, hosts) for program in programs]
    table = Table("program", ALONE.name, "seconds", hosts.name, "seconds")
    for program, one, two in zip(programs, alone, spread, strict=True):
        table.add_row(program.stem, one[0], f"{one[1]:.1f}", two[0], f"{two[1]:.1f}")
    Console().print(table)
    return int(any(said != "as expected" for said, _ in alone + spread))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
