"""The Python in the documentation runs as pasted, each block as a script of its own.

On one machine, and with a node on another host, in a directory of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environments.terminals import console_lines, opened
from manyhands.testbed import unavailable

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
    expect(block, result.stdout)


def expect(block: str, printed: str) -> None:
    """Compare what a block printed with what is known of it."""
    for sign, text in PRINTS.items():
        if sign in block:
            assert text in printed


@pytest.mark.slow
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
def test_all_blocks_run_as_pasted_with_a_node_on_another_host(tmp_path: Path) -> None:
    page = (ROOT / "docs/quick-start.md").read_text(encoding="utf-8")
    with opened(tmp_path, 2) as (one, other):
        [*keys, broker], [worker], [export, nodes, program] = console_lines(
            page, "Many machines", one.home.name
        )
        one.paste("".join(f"{line}\n" for line in keys))
        one.paste(f"{broker} > broker.log 2>&1 &\n")
        one.waits_for("listening on")
        shutil.copy2(one.home / "node.key", other.home)
        other.paste(f"{worker} > worker.log 2>&1 &\n")
        other.waits_for("welcomed as")
        assert len(one.paste(f"{export}\n{nodes}\n").splitlines()) == 2, "the head, and one node"
        python = program.replace("python ", f"{sys.executable} -W error ", 1)
        for parameter in BLOCKS:
            block = str(parameter.values[0])
            (one.home / "program.py").write_text(block)
            expect(block, one.paste(f"{python}\n"))
        head, node = (line.split() for line in one.paste(f"{nodes}\n").splitlines())
        assert int(node[head.index("DONE")]) > 100, "the tasks ran there"
        other.paste("kill -TERM %1\nwait\n")
        one.paste("kill -TERM %1\nwait\n")
    assert "Traceback" not in one.logs() + other.logs()


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 6
    sources = "".join(str(block.values[0]) for block in BLOCKS)
    assert all(sign in sources for sign in PRINTS)
