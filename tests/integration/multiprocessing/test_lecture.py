"""The programs of the lecture notes print what stands beside them, on one host and on two."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.lecture.programs import FOLDER, pattern

from harness.cluster.bench import Bench, bench
from harness.cluster.programs import TwoHosts, shown

__all__ = ["bench"]

PROGRAMS = sorted(FOLDER.glob("*.py"))
#: Programs that count on a short process being over when the next one begins. On an idle machine a
#: moment is enough for it, which `start` waits.
SHORT = {
    "02_two_processes",
    "07_raw_value",
    "08_value",
    "14_queue",
    "15_pipe",
    "18_unsynchronized",
    "22_numpy",
    "24_instance_with_value",
}
#: What the root of a program says while its processes run. On a busy machine it may be before or after
#: some of their lines.
SAID_MEANWHILE = {
    "01_process": "Я основной поток. Продолжаю выполняться.\n",
    "03_several_processes": "Мы запустили 8 процессов. Ждём их выполнения.\n",
}


def ready(program: Path, folder: Path) -> str:
    """Return the script to run: the program, which has the time that a busy machine takes."""
    if program.stem not in SHORT:
        return str(program)
    script = folder / program.name
    patient = "from manyhands.multiprocessing._processes import popen; popen.HEAD_START = 60.0\n"
    script.write_text(patient + program.read_text(encoding="utf-8"), encoding="utf-8")
    return str(script)


def check(program: Path, out: str) -> None:
    """See that a program has printed what it should."""
    wanted = program.with_suffix(".txt").read_text(encoding="utf-8")
    if said := SAID_MEANWHILE.get(program.stem):
        before, _, after = wanted.partition(said)
        found, _, rest = out.partition(said)
        assert found + rest != out, out
        out, wanted = found + rest, before + after
    assert pattern(wanted).fullmatch(out), out


def test_each_program_has_its_output_beside_it() -> None:
    assert [program.stem[:2] for program in PROGRAMS] == [f"{n:02}" for n in range(1, 25)]
    assert {program.stem for program in PROGRAMS} == {file.stem for file in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_one_host(program: Path, tmp_path: Path) -> None:
    check(program, shown([ready(program, tmp_path)], None))


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_on_two_hosts(bench: Bench, program: Path, tmp_path: Path) -> None:
    hosts = TwoHosts(bench)
    check(program, shown([ready(program, tmp_path)], hosts.broker.address))
