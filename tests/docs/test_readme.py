"""README's first screen: its program, and its lines for more machines, as pasted on two hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import eventually
from harness.terminals import Terminal, opened
from manyhands.testbed import unavailable

README = (Path(__file__).parents[2] / "README.md").read_text()
[PROGRAM] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
_SECONDS = 60.0


def more_machines(home: str) -> list[str]:
    """The commands for more machines, in order, with HOST replaced and comments dropped."""
    [block] = re.findall(
        r"^```console\n(\$ manyhands broker.*?)^```$", README, re.MULTILINE | re.DOTALL
    )
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in block.splitlines()]
    return [line.replace("HOST", home) for line in lines]


def waits_for(terminal: Terminal, sign: str) -> None:
    """Wait until a log in that terminal's home says `sign`."""
    eventually(lambda: sign in terminal.logs(), _SECONDS, what=sign)


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
def test_more_machines_by_copy_and_paste(tmp_path: Path) -> None:
    with opened(tmp_path, 2) as (one, other):
        broker, copy, worker, program = more_machines(one.home.name)
        assert broker.startswith("manyhands broker ")
        assert worker.startswith("manyhands worker ")
        manyhands = str(Path(sys.executable).parent / "manyhands")
        one.paste(f"{broker.replace('manyhands', manyhands, 1)} > broker.log 2>&1 &\n")
        waits_for(one, "listening on")
        other.paste(f"{copy}\n")
        other.paste(f"{worker.replace('manyhands', manyhands, 1)} > worker.log 2>&1 &\n")
        (other.home / "program.py").write_text(PROGRAM)
        said = other.paste(f"{program.replace('python ', f'{sys.executable} ', 1)}\n")
        assert said == "2262 [8, 27, 64]\n"
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
