"""The programs of the lecture notes print what stands beside them, on one host and on two."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.lecture.programs import FOLDER, expected

from harness.cluster.bench import Bench, bench
from harness.cluster.programs import TwoHosts, shown

__all__ = ["bench"]

PROGRAMS = sorted(FOLDER.glob("*.py"))


def test_each_program_has_its_output_beside_it() -> None:
    assert [program.stem[:2] for program in PROGRAMS] == [f"{n:02}" for n in range(1, 25)]
    assert {program.stem for program in PROGRAMS} == {file.stem for file in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_one_host(program: Path) -> None:
    out = shown([str(program)], None)
    assert expected(program).fullmatch(out), out


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_two_hosts(bench: Bench, program: Path) -> None:
    hosts = TwoHosts(bench)
    out = shown([str(program)], hosts.broker.address)
    assert expected(program).fullmatch(out), out
