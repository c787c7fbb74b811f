"""`manyhands exec --dry-run`: the lines that would run, and none of them runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.command import COMMAND, run


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_a_dry_run_prints_bytes_that_are_no_text_as_they_run(encoding: str, tmp_path: Path) -> None:
    name = b"na\xefve \xff"
    (tmp_path / os.fsdecode(name)).touch()
    done = subprocess.run(
        [*COMMAND, "exec", "--dry-run", "ls", b"./" + name],
        capture_output=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"ls './" + name + b"'\n"
    again = subprocess.run(
        ["sh"], input=done.stdout, capture_output=True, cwd=tmp_path, timeout=100, check=False
    )
    assert again.stdout == b"./" + name + b"\n"


def test_a_dry_run_has_a_line_of_json_for_each_task() -> None:
    result = run("exec", "--json", "--dry-run", "--array", "7-8", "echo", "a b")
    assert (result.returncode, result.stderr) == (0, "")
    assert list(map(json.loads, result.stdout.splitlines())) == [
        {"seq": 1, "task": "7", "inputs": ["7"], "command": "echo 'a b'"},
        {"seq": 2, "task": "8", "inputs": ["8"], "command": "echo 'a b'"},
    ]
