"""`manyhands exec --detach --array` whose client, broker and nodes are killed in the middle."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.cluster.bench import Bench
from harness.command import COMMAND, run
from harness.processes import eventually

#: What can be killed.
PARTS = ("client", "broker", "node")
#: More than one write of a pipe, so that a torn output would be seen.
_LINE = "seq $MANYHANDS_TASK $((MANYHANDS_TASK + 1000)); touch ran/$MANYHANDS_TASK"


def moments(tasks: int, seed: int) -> list[tuple[int, str]]:
    """Draw in which order the parts are killed, and how many tasks have run by then."""
    draw = random.Random(seed)
    counts = sorted(draw.sample(range(1, tasks * 3 // 4), len(PARTS)))
    return list(zip(counts, draw.sample(PARTS, len(PARTS)), strict=True))


def run_killed_array(
    bench: Bench, folder: Path, tasks: int, kills: Sequence[tuple[int, str]], timeout: float = 110
) -> None:
    """Run an array of programs, kill each part when its number of tasks has run, and check all ends.

    Args:
        bench: starts the parts.
        folder: an empty one.
        tasks: of the array.
        kills: numbers of tasks that have run, and what is killed then.
        timeout: seconds from one kill to the next, and to the end.
    """
    (folder / "ran").mkdir()
    broker = bench.broker(journal=str(folder / "journal"), keep_results=3600.0)
    node = bench.node(broker.address, slots=2)
    environment = {"MANYHANDS_BROKER": broker.address, "MANYHANDS_CONNECT_TIMEOUT": "60"}
    options = ["--detach", "--array", f"1-{tasks}", "--shell", _LINE]
    told = run("exec", *options, cwd=folder, env=environment, timeout=timeout)
    assert told.returncode == 0, told.stderr
    job = told.stdout.strip()
    client = subprocess.Popen([*COMMAND, "wait", job], env={**os.environ, **environment})
    try:
        for count, part in kills:
            eventually(partial(_have_run, folder, count), timeout=timeout, what=f"{count} ran")
            if part == "client":
                client.kill()
            elif part == "broker":
                broker.kill()
                broker.start()
            else:
                bench.node(broker.address, slots=2)
                node.kill()
    finally:
        client.kill()
        client.wait()
    waited = run("wait", job, env=environment, timeout=timeout)
    assert (waited.returncode, waited.stdout) == (0, f"{job} done\n"), waited.stderr
    output = folder / "results.jsonl"
    brought = run("results", job, "--output", output, env=environment, timeout=timeout)
    assert brought.returncode == 0, brought.stderr
    _check(output, tasks)


def _have_run(folder: Path, count: int) -> bool:
    return sum(1 for _ in (folder / "ran").iterdir()) >= count


def _check(output: Path, tasks: int) -> None:
    """See that each task has one result, and its whole output."""
    found = []
    with output.open() as lines:
        for line in lines:
            entry = json.loads(line)
            index, result = entry["index"], entry["result"]
            found.append(index)
            whole = "".join(f"{number}\n" for number in range(index + 1, index + 1002))
            assert (result["exit"], result["stdout"], result["stderr"]) == (0, whole, ""), index
    assert sorted(found) == list(range(tasks)), "each once"
