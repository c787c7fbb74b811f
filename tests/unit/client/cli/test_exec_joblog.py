"""`manyhands exec --joblog`: a log in GNU parallel's format, and going on with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.command import fails, run

HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
LINE = re.compile(r"(\d+)\t[^\t]+\t\d+\.\d{3}\t *\d+\.\d{3}\t0\t(\d+)\t(-?\d+)\t(\d+)\t(.*)\n")


def entries(log: Path) -> list[tuple[str, ...]]:
    """Number, bytes received, exit code, signal and command of each line."""
    header, *lines = log.read_text().splitlines(keepends=True)
    assert header == HEADER
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return [match.groups() for match in found if match]


def test_the_log_is_as_gnu_parallel_writes_it(named: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "echo {}; [ {} = sleep ] && sleep 600; [ {} = die ] && kill -9 $$; test {} = ok"
    words = ["--task-timeout", "8", "--shell", line, ":::", "ok", "no", "die", "sleep"]
    fails(run("exec", "-k", "--joblog", log, *words, env=named), 1)
    assert [entry[:4] for entry in entries(log)] == [
        ("1", "3", "0", "0"),
        ("2", "3", "1", "0"),
        ("3", "4", "0", "9"),
        ("4", "0", "-1", "9"),
    ]
    assert entries(log)[0][4] == line.replace("{}", "ok")


def test_a_run_goes_on_where_it_was_cut_off(named: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(
        "exec",
        "-k",
        "--joblog",
        log,
        "--shell",
        "echo {}; test {} != b",
        ":::",
        "a",
        "b",
        env=named,
    )
    with log.open("a") as file:
        file.write("3\tvm\t17")  # torn off
    words = ["--shell", "echo {}; test {} != b", ":::", "a", "b", "c", "d"]
    result = run("exec", "-k", "--joblog", log, "--resume", *words, env=named)
    assert (result.returncode, result.stdout) == (0, "c\nd\n")
    again = run("exec", "-k", "--joblog", log, "--resume-failed", *words, env=named)
    assert again.stdout == "b\n"
    assert [entry[0] for entry in entries(log)] == ["1", "2", "3", "4", "2"]


def test_another_run_s_log_is_left_alone(named: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run("exec", "--joblog", log, "echo", ":::", "a", "b", env=named)
    before = log.read_text()
    assert "is not empty" in fails(run("exec", "--joblog", log, "echo", ":::", "a", env=named), 2)
    other = run("exec", "--joblog", log, "--resume", "echo", ":::", "x", "b", "c", env=named)
    assert "was 'echo a' and is 'echo x' here" in fails(other, 2)
    assert log.read_text() == before
    run("exec", "--joblog", log, "--overwrite", "echo", ":::", "z", env=named)
    assert [entry[4] for entry in entries(log)] == ["echo z"]


@pytest.mark.parametrize("text", ["no log\n", HEADER + "1\tx\n", HEADER + "x\n"])
def test_what_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    result = run("exec", "--joblog", log, "--resume", "echo", ":::", "a")
    assert "is not of a job log" in fails(result, 2)
    assert log.read_text() == text


@pytest.mark.skipif(shutil.which("parallel") is None, reason="needs GNU parallel")
def test_either_goes_on_with_the_log_of_the_other(named: dict[str, str], tmp_path: Path) -> None:
    log, line = tmp_path / "log", "echo {}; test {} != 'a b'"

    def parallel(*words: str) -> str:
        command = ["parallel", "-k", "-j2", "--joblog", str(log), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    run("exec", "-k", "--joblog", log, "--shell", line, ":::", "a b", "c", env=named)
    assert parallel("--resume", line, ":::", "a b", "c", "d") == "d\n"
    assert parallel("--resume-failed", line, ":::", "a b", "c", "d") == "a b\n"
    words = ["--shell", line, ":::", "a b", "c", "d", "e"]
    ours = run("exec", "-k", "--joblog", log, "--resume", *words, env=named)
    assert ours.stdout == "e\n"
    assert len(entries_of_both(log)) == 5


def entries_of_both(log: Path) -> list[str]:
    header, *lines = log.read_text().splitlines(keepends=True)
    assert header == HEADER
    return lines
