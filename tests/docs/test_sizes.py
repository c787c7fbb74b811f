"""The check of sizes sees a file that is too long, and a folder with too many modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/sizes.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True, timeout=120)
    return tmp_path


def sizes(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, TOOL], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout


def add(folder: Path, *names: str, lines: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("\n" * lines)


def test_what_is_allowed(checkout: Path) -> None:
    add(checkout, "a.py", "b.js", lines=500)
    add(checkout / "package", "__init__.py", "__main__.py", *(f"m{n}.py" for n in range(14)))
    add(checkout / "programs", *(f"{n:02}_program.py" for n in range(20)))
    add(checkout / "client/manyhands/cli", *(f"m{n}.py" for n in range(20)))
    add(checkout / "docs", "page.md", lines=2_000)
    found = sizes(checkout)
    assert found == (0, "58 files have 500 lines at most, folders 14 modules\n")


def test_a_file_that_is_too_long(checkout: Path) -> None:
    add(checkout / "package", "long.py", lines=501)
    assert sizes(checkout) == (
        1,
        "package/long.py: 501 lines, 500 at most: cut it along its subjects\n",
    )


def test_a_folder_with_too_many_modules(checkout: Path) -> None:
    add(checkout / "package", *(f"m{n}.py" for n in range(15)))
    assert sizes(checkout) == (
        1,
        "package: 15 modules, 14 at most: make a folder of one subject's\n",
    )
