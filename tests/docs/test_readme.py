"""README's first screen: its program, and its lines for more machines, as pasted on two hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environments.terminals import Terminal, opened
from harness.processes import eventually
from manyhands.testbed import unavailable

README = (Path(__file__).parents[2] / "README.md").read_text()
[PROGRAM] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
_SECONDS = 60.0


def more_machines(home: str) -> list[list[str]]:
    """The blocks of commands for more machines, with HOST replaced and the command by its path."""
    [section] = re.findall(r"^## More machines\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    command = str(Path(sys.executable).parent / "manyhands")
    return [
        [
            re.sub(r"^\$ (manyhands\b)?", lambda found: command if found[1] else "", line).replace(
                "HOST", home
            )
            for line in block.splitlines()
        ]
        for block in blocks
    ]


def waits_for(terminal: Terminal, sign: str) -> None:
    """Wait until a log in that terminal's home says `sign`."""
    eventually(lambda: sign in terminal.logs(), _SECONDS, what=sign)


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
def test_more_machines_by_copy_and_paste(tmp_path: Path) -> None:
    with opened(tmp_path, 2) as (one, other):
        [*keys, broker], [copy, worker], [copy_mine, program] = more_machines(one.home.name)
        one.paste("".join(f"{line}\n" for line in keys))
        one.paste(f"{broker} > broker.log 2>&1 &\n")
        waits_for(one, "listening on")
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
