"""Running a script as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.processes import without_waits

BOUND = 110.0


def run(path: Path, script: str, *arguments: str) -> list[str]:
    """The lines that a script prints. The script has no guard, and must run once."""
    file = path / "script.py"
    file.write_text(script)
    ended = subprocess.run(
        [sys.executable, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not without_waits(ended.stderr)
    return ended.stdout.splitlines()
