"""Programs as tasks: `manyhands exec`, GNU parallel and HyperQueue in one run, as ratios.

    python -m bench.programs [--tasks 10000] [--slots 2]

GNU parallel is of Debian, HyperQueue of PyPI, in an environment of its own. ``fork+exec`` is what
the system gives: as many loops as there are slots, which start a program and wait for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from tools import venv

_ENVIRONMENT = Path(os.environ.get("BENCH_ENVIRONMENTS", ".venv/bench")) / "hyperqueue"
_REQUIRES = ("hyperqueue", "cloudpickle", "tqdm")
_SAMPLE_SECONDS = 0.05
_FORK = """
import os, sys
for _ in range(int(sys.argv[1])):
    os.waitpid(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
"""
_HYPERQUEUE = (
    "import sys",
    "from hyperqueue import Job, LocalCluster",
    "from hyperqueue.cluster import WorkerConfig",
    "with LocalCluster() as cluster:",
    "    cluster.start_worker(WorkerConfig(cores=int(sys.argv[1])))",
    "    job = Job()",
    "    for _ in range(int(sys.argv[2])):",
    "        job.program(sys.argv[3:], stdout=None, stderr=None)",
    "    client = cluster.client()",
    "    client.wait_for_jobs([client.submit(job)])",
)


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds, the machine's processor seconds, and MiB of its processes at most."""

    seconds: float
    processor: float
    memory: float


def main() -> None:
    """Measure, and print a table for each measure."""
    parser = argparse.ArgumentParser(description="Compare programs as tasks.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    tasks, slots = options.tasks, options.slots
    # Once, so that there is bytecode: an installed package has it.
    measured([[*ours(slots), "true"]])
    table(f"{tasks:,} times true", tasks, systems(tasks, slots, ["true"]))
    few = max(slots, tasks // 10)
    table(f"{few:,} programs of 50 ms", few, systems(few, slots, ["sleep", "0.05"]))
    # A short one is the start of the command, a long one its rate.
    for lines in (100 * tasks, 2_000 * tasks):
        table(f"a pipe of {lines:,} lines", lines, streams(lines, slots))


def systems(tasks: int, slots: int, program: list[str]) -> dict[str, list[list[str]]]:
    """The commands of each system; several run side by side."""
    count = [str(tasks), *program]
    found = {
        "fork+exec": [[sys.executable, "-c", _FORK, str(tasks // slots), *program]] * slots,
        "manyhands": [[*ours(slots), "--array", f"1-{tasks}", "--", *program]],
    }
    if shutil.which("parallel"):
        line = f"seq {tasks} | parallel -j{slots} -n0 {' '.join(program)}"
        found["GNU parallel"] = [["sh", "-c", line]]
    if python := hyperqueue():
        found["HyperQueue"] = [[python, "-c", "\n".join(_HYPERQUEUE), str(slots), *count]]
    return found


def streams(lines: int, slots: int) -> dict[str, list[list[str]]]:
    """The commands of those that cut a stream into blocks."""
    mine = " ".join([*ours(slots), "--pipe", "-", "wc", "-l"])
    found = {"manyhands": [["sh", "-c", f"seq {lines} | {mine}"]]}
    if shutil.which("parallel"):
        theirs = f"seq {lines} | parallel -j{slots} --pipe --block 1M wc -l"
        found["GNU parallel"] = [["sh", "-c", theirs]]
    return found


def ours(slots: int) -> list[str]:
    """`manyhands exec` of this checkout, on a cluster of its own."""
    return [sys.executable, "-m", "manyhands.cli", "exec", "-j", str(slots)]


def hyperqueue() -> str:
    """The interpreter of an environment that has it; empty if it cannot be had."""
    python = _ENVIRONMENT / "bin/python"
    if not python.exists():
        venv.create(_ENVIRONMENT)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *_REQUIRES],
        capture_output=True,
        timeout=300,
        check=False,
    )
    return "" if done.returncode else str(python)


def surroundings() -> dict[str, str]:
    """The environment of the commands: bytecode is written, and no cluster of `manyhands up` found."""
    place = _ENVIRONMENT.parent.absolute() / "programs"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = {"MANYHANDS_RUNTIME_DIR": str(place), "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **own}


def measured(commands: list[list[str]]) -> Cost:
    """Run the commands side by side to their end."""
    environment = surroundings()
    before = busy()
    began = time.monotonic()
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for command in commands
    ]
    most, over = 0.0, threading.Event()

    def sample() -> None:
        nonlocal most
        while not over.wait(_SAMPLE_SECONDS):
            most = max(most, memory())

    sampler = threading.Thread(target=sample)
    sampler.start()
    codes = [process.wait() for process in running]
    seconds = time.monotonic() - began
    over.set()
    sampler.join()
    if any(codes):
        raise SystemExit(f"{commands[0][:4]} ended with {max(codes)}")
    return Cost(seconds, busy() - before, most)


def busy() -> float:
    """Processor seconds of the whole machine: what a system leaves to another parent counts, too."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def memory() -> float:
    """MiB of all processes below this one; what they share counts once for each."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / (1 << 20)


def table(title: str, tasks: int, commands: dict[str, list[list[str]]]) -> None:
    """Measure and print."""
    costs = {name: measured(lines) for name, lines in commands.items()}
    mine = costs["manyhands"]
    print(f"\n{title}\n\n| system | a second | manyhands is | processors, s | memory, MiB |")
    print("|---|---|---|---|---|")
    for name, cost in sorted(costs.items(), key=lambda item: item[1].seconds):
        ratio = cost.seconds / mine.seconds
        numbers = f"{cost.processor:.1f} | {cost.memory:.0f}"
        print(f"| {name} | {tasks / cost.seconds:,.0f} | {ratio:.2f} x | {numbers} |")


if __name__ == "__main__":
    main()
