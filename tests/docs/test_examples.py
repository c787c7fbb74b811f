"""The Python in the documentation runs as pasted, each block as a script of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/quick-start.md", "docs/drop-in.md"]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(_BLOCK.findall((ROOT / page).read_text(encoding="utf-8")), 1)
]
#: What some of them print, so that a block which does nothing does not pass for one that works.
PRINTS = {
    "is_prime": "2262 [8, 27, 64]",
    "as_completed": "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
    "seventeen": "[3, 5, 9]",
    '"seven"': "invalid literal for int() with base 10: 'seven'; raised on the node:",
    "numpy.full": "600000.0",
    "scatter": "{499999500000}",
    "attach": "[1, 4, 9]",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs_as_pasted(block: str, tmp_path: Path) -> None:
    script = tmp_path / "pasted.py"
    script.write_text(block)
    result = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for sign, text in PRINTS.items():
        if sign in block:
            assert text in result.stdout


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 6
    sources = "".join(str(block.values[0]) for block in BLOCKS)
    assert all(sign in sources for sign in PRINTS)
