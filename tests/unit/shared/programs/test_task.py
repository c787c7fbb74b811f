"""One program after the other in one process, as a pool child runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands_shared.errors import ProgramFailed
from manyhands_shared.programs import task
from manyhands_shared.programs.program import Program
from manyhands_shared.programs.program_host import ProgramHost


@pytest.fixture(autouse=True)
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    ProgramHost.leave()


def script(place: Path, says: str) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"#!/bin/sh\necho {says}\n")
    place.chmod(0o755)


def said(program: Program) -> object:
    return task.run(program.encode(), 1, "1", None)["stdout"]


def test_a_program_that_is_gone_is_found_where_else_it_is(tmp_path: Path) -> None:
    script(tmp_path / "a/prog", "first")
    script(tmp_path / "b/prog", "second")
    program = Program(("prog",), variables={"PATH": f"{tmp_path}/a:{tmp_path}/b:/bin"})
    assert said(program) == "first\n"
    (tmp_path / "a/prog").chmod(0o644)
    (tmp_path / "a/prog").rename(tmp_path / "a/other")
    assert said(program) == "second\n"
    (tmp_path / "b/prog").unlink()
    with pytest.raises(ProgramFailed, match="no such program in PATH") as failed:
        said(program)
    assert failed.value.facts["exit"] == task.NOT_FOUND


def test_each_runs_in_its_directory_and_the_process_stays_in_its_own(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for directory, place in ((str(tmp_path / "there"), "there"), ("", ""), ("there", "there")):
        assert said(Program(("pwd",), directory=directory)) == f"{tmp_path / place}\n"
        assert Path.cwd() == tmp_path
    with pytest.raises(ProgramFailed, match="cannot work in gone"):
        said(Program(("pwd",), directory="gone"))
    assert Path.cwd() == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
def test_what_a_program_leaves_is_killed_and_no_child_that_was_there_before(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as before:
        assert said(Program(("echo", "a"))) == "a\n"
        line = f"sleep 1000 & echo $! > {tmp_path}/pid"
        assert said(Program((line,), shell=True)) == ""
        left = int((tmp_path / "pid").read_text())
        assert not Path(f"/proc/{left}").exists()
        assert before.poll() is None
        before.kill()


def test_outputs_of_one_are_not_the_next_ones() -> None:
    for text in ("long text", "", "b"):
        assert said(Program(("printf", "%s", text))) == text


def test_an_output_that_is_too_large_fails_its_program_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task, "MAX_OUTPUT", 4)
    with pytest.raises(ProgramFailed, match="its stdout of 5 bytes is more than the 4"):
        said(Program(("printf", "12345")))
    assert said(Program(("printf", "abc"))) == "abc"


@pytest.mark.parametrize(
    "words", [("no-such-program",), ("/etc/passwd",), ("true", "x" * (1 << 20))]
)
def test_a_program_that_cannot_start_leaves_the_outputs_that_were_there(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("out", "err"):
        (tmp_path / name).write_text(f"old {name}")
    with pytest.raises(ProgramFailed, match="cannot start"):
        task.run(Program(words, stdout="out", stderr="err").encode(), 1, "1", None)
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"out": "old out", "err": "old err"}


def test_outputs_are_new_files_where_links_lead(tmp_path: Path) -> None:
    place = tmp_path / "there"
    place.mkdir()
    (place / "out").write_text("a longer old text")
    for name in ("out", "err"):
        (tmp_path / name).symlink_to(f"there/{name}")
    with (place / "out").open() as old:
        program = Program(("echo a; echo b >&2",), shell=True, stdout="out", stderr="err")
        task.run(program.encode(), 1, "1", None)
        assert old.read() == "a longer old text"
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "err").is_symlink()
    found = {file.name: file.read_text() for file in place.iterdir()}
    assert found == {"out": "a\n", "err": "b\n"}


def test_two_names_of_one_output_are_one_output(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    program = Program(("echo a; echo b >&2; echo c",), shell=True, stdout="out", stderr="link")
    task.run(program.encode(), 1, "1", None)
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"
