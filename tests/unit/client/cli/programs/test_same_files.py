"""What is read is never a file that is written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.command import COMMAND, fails, in_shell, run

FILE = "both is the input; name another file"
STREAM = "stdout goes to the input; write it to another file"


@pytest.mark.parametrize(
    ("words", "streams", "says"),
    [
        (["exec", "--overwrite", "--joblog", "both", "true"], "< both", FILE),
        (["exec", "--overwrite", "--joblog", "both", "true", "::::", "no", "both"], "", FILE),
        (
            ["exec", "--overwrite", "--joblog", "both", "true", ":::", "a", "::::+", "both"],
            "",
            FILE,
        ),
        (["exec", "echo"], "< both >> both", STREAM),
        (["exec", "--dry-run", "echo"], "< both >> both", STREAM),
        (["exec", "echo", "::::", "link"], ">> both", STREAM),
        (["exec", "--pipe", "both", "cat"], ">> both", STREAM),
        (["map", "math:sqrt", "--overwrite", "--output", "both"], "< both", FILE),
        (["map", "math:sqrt"], "< both >> both", STREAM),
        (["map", "math:sqrt", "--input", "both", "--output", "other"], ">> both", STREAM),
        (
            ["map", "math:sqrt", "--input", "other.run", "--output", "other"],
            "",
            "other.run is the input",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_input_is_no_place_for_a_log_or_an_output(
    words: list[str], streams: str, says: str, named: dict[str, str], tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.write_text("1\n2\n3\n")
    (tmp_path / "no").touch()
    (tmp_path / "link").symlink_to("both")
    (tmp_path / "other.run").symlink_to("both")
    done = in_shell(f"cd {tmp_path}; {shlex.join([*COMMAND, *words])} {streams}", named)
    assert done.returncode == 2
    assert says in done.stderr
    assert both.read_text() == "1\n2\n3\n"
    assert not (tmp_path / "other").exists()


def test_what_fails_is_not_told_in_the_input(named: dict[str, str], tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.write_text("1\n")
    line = shlex.join([*COMMAND, "exec", "--shell", "echo {} >&2"])
    assert in_shell(f"cd {tmp_path}; {line} < both 2>> both", named).returncode == 2
    assert both.read_text() == "1\nerror: stderr goes to the input; write it to another file\n"


def test_a_file_may_follow_another_of_the_same_text(named: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "input").write_text("a\n")
    line = shlex.join([*COMMAND, "exec", "echo", "::::", "input"])
    done = in_shell(f"cd {tmp_path}; cp input output; {line} >> output", named)
    assert (done.returncode, (tmp_path / "output").read_text()) == (0, "a\na\n")


def test_an_output_is_not_what_a_task_reads(named: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "1").write_text("b\na\n")
    result = run("exec", "--stdin", "%t", "--stdout", "%t", "sort", cwd=tmp_path, env=named)
    assert result.returncode == 2
    assert "--stdout %t is what --stdin reads; name another file" in result.stderr
    assert (tmp_path / "1").read_text() == "b\na\n"


@pytest.mark.parametrize("option", ["--stdout", "--stderr"])
def test_a_log_is_not_what_a_task_writes(
    option: str, named: dict[str, str], tmp_path: Path
) -> None:
    words = ["exec", "--joblog", "link", "--overwrite", option, "log", "true"]
    (tmp_path / "link").symlink_to("log")
    (tmp_path / "log").write_text("old")
    result = run(*words, cwd=tmp_path, env=named)
    assert f"link is what {option} writes; name another file" in fails(result, 2)
    assert (tmp_path / "log").read_text() == "old"
