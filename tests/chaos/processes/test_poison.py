"""Tasks that kill: by eating memory, by killing every node they meet, by leaving families behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import manyhands
from harness.cluster.bench import Bench, counters, joined
from harness.cluster.ledger import Ledger, run
from harness.processes import Gate, eventually, has_ended, lent_memory, wait_at
from manyhands_worker.host.cgroup import memory_room

BOUND = 100.0
#: No node loses it for the sake of a busy machine.
LEASE = 100.0
MIB = 1 << 20
LIMIT = 300 * MIB


def memory_cgroup() -> Path | None:
    """A new control group with a memory limit, below our own; `None` where that cannot be made."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    places = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            places.append((Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"))
        elif number == "0":
            places.append((Path("/sys/fs/cgroup" + path), "memory.max"))
    for parent, limit in places:
        group = parent / f"manyhands-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(LIMIT))
            except OSError:
                group.rmdir()
            else:
                with suppress(OSError):
                    (group / "memory.swap.max").write_text("0")
                return group
    return None


@pytest.fixture
def cgroup() -> Iterator[Path]:
    group = memory_cgroup()
    if group is None:
        pytest.skip("needs a memory cgroup that it may divide (root, cgroup v1 or delegated v2)")
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text().split(), what="cgroup empty")
    group.rmdir()


def eat() -> None:
    """Take memory until the system or the node kills this process."""
    held = []
    while True:
        held.append(b"x" * (8 * MIB))


def test_a_task_that_runs_out_of_memory_is_killed_alone_and_told(
    cgroup: Path, bench: Bench
) -> None:
    """Row 4, with the kernel's own killer."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    move = f"echo $$ > {cgroup}/cgroup.procs && exec "
    node = bench.node(broker.address, prefix=["sh", "-c", move + '"$@"', "node"], slab_bytes=MIB)
    joined(client, 1)
    pid = node.pid
    executor = bench.executor(broker.address)
    neighbours = [executor.submit(abs, -number) for number in range(200)]
    poison = executor.submit(eat)
    with pytest.raises(manyhands.TaskCrashed, match="for lack of memory") as caught:
        poison.result(BOUND)
    assert len(caught.value.story) == 2
    assert [future.result(BOUND) for future in neighbours] == list(range(200))
    assert executor.submit(abs, -1).result(BOUND) == 1
    assert node.alive
    assert node.pid == pid
    print(caught.value.story[0])


def take(mib: int) -> int:
    """Have so much memory for a moment."""
    return len(b"x" * (mib * MIB)) // MIB


def take_until_short(gate: Path) -> None:
    """Have nearly all the memory that is left, until a gate is open."""
    held = []
    while (memory_room() or 0) > 20 * MIB:
        held.append(b"x" * (4 * MIB))
    wait_at(gate)


def large(number: int) -> Any:
    """A result of 3 MiB."""
    return np.full(3 * MIB, number, dtype="u1")


def test_results_that_a_client_keeps_give_way_before_the_kernel_kills(
    cgroup: Path, bench: Bench
) -> None:
    """Row 4: half of the limit is lent; a node that is short of memory asks for it."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    move = f"echo $$ > {cgroup}/cgroup.procs && exec "
    node = bench.node(broker.address, prefix=["sh", "-c", move + '"$@"', "node"], slab_bytes=MIB)
    joined(client, 1)
    executor = bench.executor(broker.address)
    # One by one: many on their way through a busy broker would make the node short of memory too soon.
    kept = [executor.submit(large, number).result(BOUND) for number in range(80)]
    assert len(lent_memory(node.pid)) > 20
    gate = Gate(bench.folder / "gate")
    bench.stack.callback(gate.open)
    short = executor.submit(take_until_short, gate.path)
    eventually(lambda: not lent_memory(node.pid), BOUND, what="the node has its memory back")
    gate.open()
    short.result(BOUND)
    assert executor.submit(take, 120).result(BOUND) == 120
    assert [array[-1] for array in kept] == list(range(80))
    assert all(len(array) == 3 * MIB for array in kept)


def kill_node() -> None:
    """Kill the node that runs this."""
    me = psutil.Process()
    for parent in me.parents():
        if "manyhands_worker" in parent.cmdline():  # a word of its own: not the fork server
            parent.kill()
    threading.Event().wait(BOUND)


@pytest.mark.slow
def test_a_job_that_kills_every_node_it_meets_is_stopped_after_two(bench: Bench) -> None:
    """Row 35, with a fleet that starts nodes again as a supervisor does."""
    ledger = Ledger(bench.folder)
    broker = bench.broker(crash_limit=2, lease=LEASE)
    client = bench.client(broker.address)
    for _ in range(2):
        bench.node(broker.address)
    joined(client, 2)
    executor = bench.executor(broker.address)
    futures = [ledger.hand_in(executor, run, task) for task in range(400)]
    poison = executor.submit(kill_node)
    killed = 0

    def supervised() -> bool:
        nonlocal killed
        for node in bench.nodes:
            if not node.alive:
                killed += 1
                node.start()
        # The second death may be told of before it is seen here.
        return poison.done() and killed >= 2

    eventually(supervised, BOUND, what="the poison is in quarantine")
    with pytest.raises(manyhands.TaskCrashed) as caught:
        poison.result()
    assert len(caught.value.story) == 2, caught.value.story
    assert killed == 2
    assert [future.result(BOUND) for future in futures] == list(range(400))
    assert executor.submit(abs, -1).result(BOUND) == 1
    eventually(lambda: ledger.drained)
    print(ledger.judge())
    assert counters(client)["tasks_failed"] == 1


def leave_a_family(file: str) -> None:
    """Start a process that starts a process, in a session of their own; then hang."""
    import subprocess

    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with open(file, "wb") as out:  # noqa: PTH123 - runs on the node
        subprocess.Popen([sys.executable, "-c", outer], stdout=out)
    threading.Event().wait(600)


@pytest.mark.parametrize("how", ["cancel", "kill the child", "kill the node"])
def test_grandchildren_go_with_what_started_them(bench: Bench, how: str) -> None:
    """Row 9, and rows 8 and 10 where families are concerned."""
    broker = bench.broker(crash_limit=1, lease=LEASE)
    node = bench.node(broker.address)
    executor = bench.executor(broker.address)
    file = bench.folder / "grandchild"
    file.touch()
    future = executor.submit(leave_a_family, str(file))
    grandchild = psutil.Process(int(eventually(file.read_text, BOUND)))
    child = grandchild.parent().parent()
    if how == "cancel":
        assert future.cancel()
    elif how == "kill the child":
        child.kill()
    else:
        node.signal(signal.SIGKILL)
    eventually(lambda: has_ended(grandchild), BOUND, what="the grandchild is gone")
    eventually(lambda: has_ended(child), BOUND, what="the child is gone")
    if how != "kill the node":
        assert executor.submit(abs, -1).result(BOUND) == 1
