"""README's first screen: its program, and its lines for more machines, as pasted on two hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environments.terminals import console_lines, opened
from manyhands.testbed import unavailable

README = (Path(__file__).parents[2] / "README.md").read_text()
[PROGRAM] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
def test_more_machines_by_copy_and_paste(tmp_path: Path) -> None:
    with opened(tmp_path, 2) as (one, other):
        [*keys, broker], [copy, worker], [copy_mine, program] = console_lines(
            README, "More machines", one.home.name
        )
        one.paste("".join(f"{line}\n" for line in keys))
        one.paste(f"{broker} > broker.log 2>&1 &\n")
        one.waits_for("listening on")
        other.paste(f"{copy}\n{worker} > worker.log 2>&1 &\n")
        (other.home / "program.py").write_text(PROGRAM)
        python = program.replace("python ", f"{sys.executable} ", 1)
        assert other.paste(f"{copy_mine}\n{python}\n") == "2262 [8, 27, 64]\n"
        # The node's host has no key that could rule the cluster.
        assert {file.name for file in other.home.glob("*.key")} == {"node.key", "me.key"}
        other.paste("kill -TERM %1\nwait\n")
        one.paste("kill -TERM %1\nwait\n")
    assert "Traceback" not in one.logs() + other.logs()


@pytest.mark.slow
def test_the_demo_ends_well(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "examples/demo.py"
    done = subprocess.run(
        [sys.executable, demo], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    said = " ".join(done.stdout.split())
    assert "results are the same" in said
    assert "40 of 40 tiles arrived, each once: nothing was lost" in said
    assert (tmp_path / "out/mandelbrot.png").read_bytes().startswith(b"\x89PNG")
