"""`manyhands exec --detach --array`: each part is killed in the middle, and each end is told once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from harness.cluster.bench import Bench, bench
from harness.command import COMMAND, run
from harness.processes import eventually

__all__ = ["bench"]

_TASKS = 300
#: More than one write of a pipe, so that a torn output would be seen.
_LINE = "seq $MANYHANDS_TASK 2000; touch ran/$MANYHANDS_TASK"


def test_client_broker_and_node_are_killed_in_the_middle(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "ran").mkdir()
    broker = bench.broker(journal=str(tmp_path / "journal"), keep_results=3600.0)
    first = bench.node(broker.address, slots=2)
    environment = {"MANYHANDS_BROKER": broker.address, "MANYHANDS_CONNECT_TIMEOUT": "60"}
    options = ["--detach", "--array", f"1-{_TASKS}", "--shell", _LINE]
    told = run("exec", *options, cwd=tmp_path, env=environment)
    assert told.returncode == 0, told.stderr
    job = told.stdout.strip()

    def ran(count: int) -> None:
        eventually(
            lambda: len(list((tmp_path / "ran").iterdir())) >= count,
            timeout=60,
            what=f"{count} ran",
        )

    waiting = subprocess.Popen([*COMMAND, "wait", job], env={**os.environ, **environment})
    ran(20)
    waiting.kill()
    waiting.wait()
    broker.kill()
    broker.start()
    ran(60)
    bench.node(broker.address, slots=2)
    first.kill()
    waited = run("wait", job, env=environment)
    assert (waited.returncode, waited.stdout) == (0, f"{job} done\n"), waited.stderr
    results = run("results", job, env=environment)
    found = [json.loads(line) for line in results.stdout.splitlines()]
    assert sorted(entry["index"] for entry in found) == list(range(_TASKS)), "each once"
    for entry in found:
        whole = "".join(f"{number}\n" for number in range(entry["index"] + 1, 2001))
        assert (entry["result"]["exit"], entry["result"]["stdout"]) == (0, whole)
