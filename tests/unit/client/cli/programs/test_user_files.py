"""Which files the command says it can write."""

from __future__ import annotations

import subprocess
import sys


def test_a_pipe_without_a_name_can_be_written() -> None:
    # Root may write to every folder, and so finds no difference.
    line = (
        "from pathlib import Path; from manyhands.cli import _user_files;"
        "_user_files.check_writable(Path('/dev/stdout')); print('yes')"
    )
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr) == ("yes\n", "")
