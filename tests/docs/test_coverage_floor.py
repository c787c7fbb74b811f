"""The floors of the coverage: a test file that is taken out makes the check fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/coverage_floor.py"
CONFIG = '[tool.coverage.run]\nbranch = true\nsource_pkgs = ["one", "two"]\n'
MODULE = "def sign(number):\n    if number < 0:\n        return -1\n    return 1\n"
#: The floors are held with this version alone.
HELD = sys.version_info[:2] == (3, 11)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("one", "two"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(MODULE)
        (tmp_path / f"check_{package}.py").write_text(
            f"import {package}\n{package}.sign(-2), {package}.sign(2)\n"
        )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/coverage-cores.toml").write_text(CONFIG)
    (tmp_path / "tools/coverage-cores.txt").write_text("one 99.5\ntwo 99.5\n")
    return tmp_path


def checked(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run the tests that are there under the tracer, then the check."""
    tests = "".join(f"import {path.stem}\n" for path in sorted(folder.glob("check_*.py")))
    (folder / "run.py").write_text(tests)
    traced = ["coverage", "run", "--rcfile=tools/coverage-cores.toml", "run.py"]
    subprocess.run([sys.executable, "-m", *traced], cwd=folder, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, TOOL, "cores", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_test_file_that_is_taken_out_is_missed(checkout: Path) -> None:
    both = ["one: 100.00 %, floor 99.5 %", "two: 100.00 %, floor 99.5 %"]
    assert checked(checkout) == (0, both)
    (checkout / "check_two.py").unlink()
    code, lines = checked(checkout)
    assert lines[1] == "two: 0.00 %, floor 99.5 %"
    assert code == int(HELD)
    assert lines[2] == (
        "Lines or branches that ran before do not run any more: write tests: two"
        if HELD
        else "the floors are for Python 3.11, and this is another"
    )


def test_a_floor_only_rises(checkout: Path) -> None:
    floors = checkout / "tools/coverage-cores.txt"
    floors.write_text("one 50.0\ntwo 50.0\n")
    (checkout / "check_two.py").unlink()
    checked(checkout, "--raise")
    assert floors.read_text() == "one 99.5\ntwo 50.0\n"


def test_a_floor_that_was_higher_in_an_earlier_commit_is_refused(checkout: Path) -> None:
    floors = checkout / "tools/coverage-cores.txt"

    def commit(text: str) -> None:
        floors.write_text(text)
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        for arguments in (("add", "."), (*author, "commit", "-qm", "floors")):
            subprocess.run(["git", *arguments], cwd=checkout, check=True, timeout=60)

    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True, timeout=60)
    commit("one 99.0\n")
    commit("one 99.5\ntwo 50.0\n")
    assert checked(checkout)[0] == 0
    commit("one 98.0\ntwo 50.0\n")
    code, lines = checked(checkout)
    assert code == 1
    assert lines[-1] == "A floor only rises: write tests instead: one was 99.5"
