"""The check of links sees a broken one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/check_docs.py"
PAGE = """
# One `heading`, and more
## Twice
## Twice
"""


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "page.md").write_text(PAGE)
    (folder / "other.md").write_text(text)
    return subprocess.run(
        [sys.executable, TOOL, "page.md", "other.md"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "text",
    [
        "[a](page.md) and ![b](page.md#twice-1)",
        "[a](page.md#one-heading-and-more)",
        "# Here\n[a](#here)",
        "[a](https://example.org/none) [b](mailto:a@example.org)",
        "```\n[a](none.md)\n```\nand `[a](none.md)`",
        '<img src="page.md">',
    ],
)
def test_good_links_pass(text: str, tmp_path: Path) -> None:
    assert check(tmp_path, text).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "[a](none.md)",
        "![a](none.png)",
        "[a](page.md#thrice)",
        "[a](#nowhere)",
        "[![b](none.svg)](page.md)",
        '<a href="none.md">a</a>',
    ],
)
def test_broken_links_are_named(text: str, tmp_path: Path) -> None:
    result = check(tmp_path, text)
    assert result.returncode == 1
    assert result.stdout.startswith("other.md: ")
