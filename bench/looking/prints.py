"""What it costs that tasks print: their rate with 100,000 lines a second on the way, and without.

`python -m bench.looking.prints` runs tasks of 20 ms on two slots, in turn and several times. They print
1,000 lines each to the client's terminal, or as many to the node's own output (`echo=False`), or none. A
pipe stands for either, and a thread counts what comes out of it. The benchmark prints medians, ratios,
and the CPU time of client, broker and node for each line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from typing import IO, Any

import psutil

import manyhands

_SLOTS, _LINES, _SECONDS = 2, 1_000, 0.020
_TASKS = 300
_LINE = "a line of about sixty characters, as programs print them, no more"
#: Lines that each task prints, and whether the client shows them.
_KINDS = {
    "to the client": (_LINES, True),
    "to the node's own output": (_LINES, False),
    "none": (0, True),
}


def work(lines: int, seconds: float) -> None:
    """Print lines, and take a known time if these take less."""
    until = time.monotonic() + seconds
    for _ in range(lines):
        print(_LINE)
    time.sleep(max(0.0, until - time.monotonic()))


def main() -> int:
    """Measure; print a table. Returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.looking.prints", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measure(options.repeats)
        return 0
    command = [
        sys.executable,
        "-m",
        "bench.looking.prints",
        "--measure",
        "--repeats",
        str(options.repeats),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        counted: list[int] = []
        reader = threading.Thread(target=_count, args=(run.stdout, counted))
        reader.start()
        said = run.stderr.read()
        reader.join()
    if run.returncode:
        print(said, file=sys.stderr)
        return 1
    *others, document = said.splitlines()
    print("\n".join(others), end="\n" if others else "")
    _report(json.loads(document), options.repeats, counted[0])
    return 0


def _count(stream: IO[str], counted: list[int]) -> None:
    counted.append(sum(1 for _ in stream))


def _report(found: dict[str, dict[str, list[float]]], repeats: int, lines: int) -> None:
    rates = {kind: statistics.median(found[kind]["rate"]) for kind in _KINDS}
    print("| lines | tasks/s | of the rate with none | lines/s | CPU for each line, µs |")
    print("|---|---|---|---|---|")
    quiet = statistics.median(found["none"]["cpu"])
    for kind, (each, _) in _KINDS.items():
        cpu = (statistics.median(found[kind]["cpu"]) - quiet) / each * 1e6 if each else 0.0
        rate = rates[kind]
        print(
            f"| {kind} | {rate:.1f} | {rate / rates['none']:.3f} | {rate * each:,.0f} | {cpu:.2f} |"
        )
    print(f"\n{lines:,} of {2 * _TASKS * _LINES * repeats:,} lines came")


def _measure(repeats: int) -> None:
    found: dict[str, dict[str, list[float]]] = {kind: {"rate": [], "cpu": []} for kind in _KINDS}
    with manyhands.LocalCluster(nodes=1, slots=_SLOTS) as cluster:
        assert cluster.broker is not None
        pids = [None, cluster.broker.pid, cluster.nodes[0].pid]
        parts = [psutil.Process(pid) for pid in pids]
        for _ in range(repeats):
            for kind, (lines, echo) in _KINDS.items():
                with manyhands.Executor(address=cluster.address, echo=echo) as executor:
                    _run(executor, lines, _SLOTS)
                    before, began = _cpu(parts), time.perf_counter()
                    _run(executor, lines, _TASKS - _SLOTS)
                    spent = time.perf_counter() - began
                    found[kind]["rate"].append((_TASKS - _SLOTS) / spent)
                    found[kind]["cpu"].append((_cpu(parts) - before) / (_TASKS - _SLOTS))
    print(json.dumps(found), file=sys.stderr)


def _run(executor: Any, lines: int, count: int) -> None:
    for future in [executor.submit(work, lines, _SECONDS) for _ in range(count)]:
        future.result()


def _cpu(parts: list[Any]) -> float:
    return float(sum(sum(part.cpu_times()[:2]) for part in parts))


if __name__ == "__main__":
    sys.exit(main())
