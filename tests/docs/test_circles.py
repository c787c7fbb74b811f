"""The check of imports sees a circle, and tells those of type checkers apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/circles.py"


def circles(folder: Path, **files: str) -> tuple[int, str]:
    package = folder / "client/manyhands"
    package.mkdir(parents=True)
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, TOOL],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_none(tmp_path: Path) -> None:
    late = "def call():\n    import manyhands.a"
    found = circles(tmp_path, a="import manyhands.b", b="from manyhands import c", c=late)
    assert found == (0, "no circles among 3 files\n")


def test_one_of_three_files(tmp_path: Path) -> None:
    found = circles(
        tmp_path,
        a="from manyhands.b import b",
        b="try:\n    import manyhands.c\nfinally:\n    pass",
        c="from manyhands import a",
        d="import manyhands.a",
    )
    assert found == (1, "imports circle: manyhands.a manyhands.b manyhands.c\n")


def test_one_that_type_checkers_alone_see(tmp_path: Path) -> None:
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from manyhands.a import a"
    found = circles(tmp_path, a="import manyhands.b", b=typing)
    assert found == (1, "imports for type checkers circle: manyhands.a manyhands.b\n")
