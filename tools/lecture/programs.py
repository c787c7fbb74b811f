"""The programs of the lecture notes: what each should print, and how one is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tools.two_hosts import Place

FOLDER = Path(__file__).parents[2] / "examples" / "lecture"
#: How long a program may take.
_PROGRAM_SECONDS = 120.0
_NUMBER = r"\d+(\.\d+)?"
#: As `re.escape` leaves it.
_RANGE = re.compile(r"<(\d+)\\\.\\\.(\d+)>")

#: What a busy machine has a program say while its cluster starts.
_WAITS = "manyhands: no broker answers yet "
ALONE = Place("one host", {})


def expected(program: Path) -> re.Pattern[str]:
    """Return what a program prints."""
    return pattern(program.with_suffix(".txt").read_text(encoding="utf-8"))


def pattern(text: str) -> re.Pattern[str]:
    """Return the expression for a text that stands beside a program.

    Numbers that differ each time are any, ``<number>``, or one of those that are promised, ``<2..9>``.
    """
    return re.compile(_RANGE.sub(_one_of, re.escape(text)).replace("<number>", _NUMBER))


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
