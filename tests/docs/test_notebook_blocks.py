"""The Python in README and quick start runs as cells of one notebook, within a running loop."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from manyhands import LocalCluster

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELLS = [
    block
    for page in ("README.md", "docs/quick-start.md")
    for block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
]
#: What the cells are to print, in this order among other things.
PRINTED = [
    "2262 [8, 27, 64]",
    "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
    "[3, 5, 9]",
    "invalid literal for int() with base 10: 'seven'; raised on the node:",
    "600000.0",
    "{499999500000}",
    "1023",
    "499999500000",
    "task 1] working on 1",
    "[0, 1, 4]",
    "500500",
    "[1, 4, 9]",
]
#: Jupyter's kernel runs cells like this, within its loop.
NOTEBOOK = """
import asyncio
import json
import sys

from IPython.core.interactiveshell import InteractiveShell


async def main():
    shell = InteractiveShell.instance()
    for cell in json.load(sys.stdin):
        code = shell.transform_cell(cell)
        ran = await shell.run_cell_async(cell, store_history=True, transformed_cell=code)
        ran.raise_error()


if __name__ == "__main__":
    asyncio.run(main())
"""


def test_all_blocks_run_as_cells_of_one_notebook(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    with LocalCluster(nodes=1, slots=2) as cluster:
        ran = subprocess.run(
            [sys.executable, tmp_path / "notebook.py"],
            input=json.dumps(CELLS),
            cwd=tmp_path,
            env={
                **os.environ,
                "IPYTHONDIR": str(tmp_path),
                "MANYHANDS_BROKER": cluster.address,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    place = 0
    for text in PRINTED:
        place = ran.stdout.find(text, place)
        assert place >= 0, f"{text}: not in its place in {ran.stdout}"
