"""The check of prose sees long sentences and retired words, and its baseline only shrinks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/prose.py"
LONG = " ".join(["word"] * 26)
FITS = " ".join(["word"] * 25)


def prose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with two findings in its README, and the baseline for them."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "README.md").write_text(f"{LONG}. Nobody knows.\n")
    assert prose(tmp_path, "--lower").returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        f"{FITS}. {FITS}!",
        f"{FITS}\n\n{FITS}",
        f"- {FITS}\n- {FITS}",
        f"| {FITS} | {FITS} |\n|---|---|\n| {FITS} | {FITS}<br>{FITS} |",
        f"```\n{LONG} nobody\n```",
        f"A piece of code, `{LONG} nobody`, is one word.",
        f"[{FITS}](a-long-path-of-a-page.md)",
        f"<!-- nobody {LONG} -->",
    ],
)
def test_good_pages_pass(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    result = prose(tmp_path, "page.md")
    assert (result.returncode, result.stdout) == (0, "nothing to mend\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"One.\n\n{LONG}.", "page.md:3: 26 words: word word word word word word word word ..."),
        ("Whoever\nasks", 'page.md:1: retired: "whoever"'),
        ("- one\n- of\n  which", 'page.md:2: retired: "of which"'),
        ("| a |\n|---|\n| in vain |", 'page.md:3: retired: "in vain"'),
        ("```\ncode\n```\n\nso many", 'page.md:5: retired: "so many"'),
    ],
)
def test_findings_of_a_page_are_told_with_their_lines(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    result = prose(tmp_path, "page.md")
    assert (result.returncode, result.stdout) == (1, f"{what}\n")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""Nobody."""', 1),
        ('def f():\n    """Return.\n\n    Args:\n        a: nobody knows.\n    """', 5),
        ("# One line,\n# nobody else.\nx = 1", 1),
        ("x = 1  # nobody", 1),
        ('x = 1\nraise ValueError("nobody has" f" taken {x}")', 2),
    ],
)
def test_docstrings_comments_and_messages_of_python_are_read(
    source: str, line: int, tmp_path: Path
) -> None:
    (tmp_path / "module.py").write_text(source)
    result = prose(tmp_path, "module.py")
    assert result.stdout == f'module.py:{line}: retired: "nobody"\n'


def test_comments_of_settings_are_read(tree: Path) -> None:
    (tree / "compose.yaml").write_text(
        "#!nobody\n# One\n# comment.\nnobody: 1\n  # of\n  # which\n"
    )
    result = prose(tree)
    assert result.returncode == 1
    assert 'compose.yaml:5: retired: "of which"' in result.stdout
    assert "compose.yaml: 1 findings" in result.stdout


@pytest.mark.parametrize(
    "source",
    [
        'x = "nobody"',
        "nobody = 1",
        '"""See.\n\n    nobody = code()\n"""',
        f'"""Do.\n\nArgs:\n    a: {FITS}\n    b: {FITS}\n"""',
        f"# {FITS}\nx = 1\n# {FITS}",
        f'x = "SELECT {LONG}"',
    ],
)
def test_what_is_code_in_python_is_left_alone(source: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    assert prose(tmp_path, "module.py").stdout == "nothing to mend\n"


def test_as_many_findings_as_in_the_baseline_pass(tree: Path) -> None:
    assert prose(tree).returncode == 0


def test_a_new_finding_fails_and_cannot_be_written_into_the_baseline(tree: Path) -> None:
    (tree / "README.md").write_text(f"{LONG}. Nobody knows. Nobody.\n")
    result = prose(tree)
    assert result.returncode == 1
    assert "README.md: 3 findings, 2 allowed: mend at least 1" in result.stdout
    assert prose(tree, "--lower").returncode == 1
    (tree / "README.md").write_text(f"{LONG}. Nobody knows.\n")
    assert prose(tree).returncode == 0


def test_a_mended_finding_has_to_lower_the_baseline(tree: Path) -> None:
    (tree / "README.md").write_text("Nobody knows.\n")
    result = prose(tree)
    assert result.returncode == 1
    assert "README.md: 1 findings, 2 allowed: run python tools/prose.py --lower" in result.stdout
    assert prose(tree, "--lower").returncode == 0
    assert prose(tree).returncode == 0


def test_a_file_that_moves_takes_its_findings_along_and_no_more(tree: Path) -> None:
    (tree / "docs").mkdir()
    moved = (tree / "README.md").rename(tree / "docs/page.md")
    assert prose(tree).returncode == 1
    moved.write_text(f"{LONG}. Nobody knows. Nobody.\n")
    assert prose(tree, "--lower").returncode == 1
    moved.write_text(f"{LONG}. Nobody knows.\n")
    assert prose(tree, "--lower").returncode == 0
    assert prose(tree).returncode == 0


def test_a_baseline_that_two_branches_lowered_counts_the_least(tree: Path) -> None:
    (tree / "README.md").write_text("Nobody knows.\n")
    (tree / "tools/prose-baseline.txt").write_text("README.md 2\nREADME.md 1\n")
    assert prose(tree).returncode == 0
