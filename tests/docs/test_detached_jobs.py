"""The shell lines about jobs that are left behind, as the quick start has them."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from manyhands import Client, LocalCluster

PAGE = Path(__file__).parents[2] / "docs/quick-start.md"


def test_the_shell_lines_of_the_quick_start_run(tmp_path: Path) -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with LocalCluster(nodes=1) as cluster:
        with Client(cluster.address) as client:
            client.wait_for_nodes(1)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        result = subprocess.run(
            ["sh", "-eu", "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "MANYHANDS_BROKER": cluster.address},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    entries = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    found = {entry["index"]: entry["result"] for entry in entries}
    assert found == {number - 1: math.factorial(number) for number in range(1, 21)}
