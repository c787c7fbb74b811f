"""Run the programs of the lecture notes that depend on order again and again while the machine is busy.

    make lecture-order TIMES=100

Each runs on one host and on two, and for comparison with the standard library's `multiprocessing`.
Several run at once, and a process for each core does nothing but spin.
Named programs alone: python -m tools.lecture.order 100 07_raw_value
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table
from tools.lecture.programs import ALONE, FOLDER, run
from tools.two_hosts import Place, best_two_hosts

#: Their output has an order, or a number, that processes started one after the other bring about.
ORDERED = (
    "02_two_processes",
    "07_raw_value",
    "08_value",
    "15_pipe",
    "18_unsynchronized",
    "20_condition",
    "21_event",
    "22_numpy",
    "23_instance_by_value",
    "24_instance_with_value",
)
STANDARD = Place("multiprocessing", {})
#: How many programs run at once.
_AT_ONCE = 4


def main(times: int, names: Sequence[str]) -> int:
    """Run each of them `times` times in each place; print a table. Returns an exit code."""
    names = names or ORDERED
    with best_two_hosts(slots=2) as hosts, TemporaryDirectory() as folder, _busy():
        places = (ALONE, hosts)
        said = {}
        for name in names:
            program = FOLDER / f"{name}.py"
            here = [_repeat(program, place, times) for place in places]
            said[name] = [*here, _repeat(_with_standard(program, Path(folder)), STANDARD, times)]
    titles = (text for place in (*places, STANDARD) for text in (place.name, "longest, s"))
    table = Table("program", *titles)
    for name, here in said.items():
        table.add_row(name, *(text for one in here for text in one[:2]))
    Console().print(table)
    return int(not all(right for here in said.values() for *_, right in here[: len(places)]))


def _with_standard(program: Path, folder: Path) -> Path:
    """Return a copy of a program that imports the standard library's `multiprocessing`."""
    text = program.read_text(encoding="utf-8")
    ours = "import manyhands.multiprocessing as mp\n"
    assert ours in text, program
    copy = folder / program.name
    copy.write_text(text.replace(ours, "import multiprocessing as mp\n"), encoding="utf-8")
    shutil.copy(program.with_suffix(".txt"), folder)
    return copy


def _repeat(program: Path, place: Place, times: int) -> tuple[str, str, bool]:
    """Run a program again and again; return what it said, the longest run, and whether all is right."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        done = list(threads.map(lambda _: run(program, place), range(times)))
    found = Counter(said for said, _ in done)
    text = ", ".join(f"{count} {said}" for said, count in found.items())
    return text, f"{max(seconds for _, seconds in done):.1f}", set(found) == {"as expected"}


@contextmanager
def _busy() -> Iterator[None]:
    """Keep every core busy."""
    # It ends with this process, however that does.
    code = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", code]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if sys.argv[1:] else 100, sys.argv[2:]))
