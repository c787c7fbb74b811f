"""The programs of the lecture notes print what stands beside them, on one host and on two."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cluster.bench import Bench, bench
from harness.cluster.programs import TwoHosts, finished, start_root

__all__ = ["bench"]

EXAMPLES = Path(__file__).parents[3] / "examples" / "lecture"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
_NUMBER = r"\d+(\.\d+)?"


def expected(program: Path) -> re.Pattern[str]:
    """Return what a program prints; numbers that differ each time are any."""
    text = program.with_suffix(".txt").read_text()
    return re.compile(re.escape(text).replace("<number>", _NUMBER))


def test_each_program_has_its_output_beside_it() -> None:
    assert PROGRAMS
    assert {program.stem for program in PROGRAMS} == {file.stem for file in EXAMPLES.glob("*.txt")}


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_one_host(program: Path) -> None:
    out = finished(start_root([str(program)], None))
    assert expected(program).fullmatch(out), out


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_two_hosts(bench: Bench, program: Path) -> None:
    hosts = TwoHosts(bench)
    out = finished(start_root([str(program)], hosts.broker.address))
    assert expected(program).fullmatch(out), out
