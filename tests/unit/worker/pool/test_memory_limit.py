"""A task that has more memory than its job asked for is ended, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from harness.pool.pool_rig import PoolRig
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import Rules
from manyhands_worker.pool.task_memory import TaskMemory

MB = 10**6
LIMIT = Rules(memory=150 * MB)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def hog(size: int) -> None:
    """Have this much memory, for ever."""
    kept = b"x" * size
    threading.Event().wait()
    del kept


def hog_elsewhere(size: int) -> None:
    """Have a program that does."""
    code = f"kept = b'x' * {size}; import threading; threading.Event().wait()"
    subprocess.run([sys.executable, "-c", code], check=True)


def leave_behind(size: int) -> int:
    """Keep memory beyond this task's end."""
    vars(sys)["left"] = b"x" * size
    return os.getpid()


def have(size: int) -> int:
    return len(b"x" * size)


@pytest.mark.parametrize("task", [hog, hog_elsewhere])
def test_it_is_killed_and_told_the_limit_and_what_it_had(
    rig: Callable[..., PoolRig], task: Callable[[int], None]
) -> None:
    pool = rig()
    [(status, text)] = pool.outcome(pool.submit(task, 300 * MB, rules=LIMIT))
    assert status == Status.RAISED
    words = text.split()
    assert words[0] == "had"
    # The node may look while the memory is still growing.
    assert 150 < float(words[1]) < 450
    assert "more than its limit of 150.0 MB, and was killed on node rig" in text
    assert pool.call(have, 1) == (Status.OK, 1)


def test_the_limit_is_that_tasks_alone(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pid = pool.outcome(pool.submit(os.getpid, rules=LIMIT))[0][1]
    pool.submit(hog, 300 * MB)
    assert pool.started() == pid
    pool.until(lambda: pool.child().rss > 300 * MB, "it has the memory, and is looked at")
    assert not pool.deaths()


def test_what_an_earlier_task_left_is_not_held_against_it(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    left, pid = pool.call(leave_behind, 300 * MB)
    assert left == Status.OK
    [(status, found)] = pool.outcome(pool.submit(os.getpid, rules=LIMIT))
    assert status == Status.OK
    assert found != pid, "it ran in a fresh child"
    assert not pool.deaths()


def test_what_its_own_function_keeps_stays_for_the_next_task(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    ends = [
        pool.outcome(pool.submit(leave_behind, 90 * MB, rules=LIMIT))[0],
        pool.outcome(pool.submit(leave_behind, 1, rules=LIMIT))[0],
    ]
    assert ends[0] == ends[1], "the same child"
    assert ends[0][0] == Status.OK
    assert not pool.deaths()


_FAMILY = """
import mmap, os, sys, time
shared = mmap.mmap(-1, 100_000_000)
shared[:] = b"s" * len(shared)
kept = b"x" * 60_000_000
for _ in range(3):
    if not os.fork():
        break
else:
    print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[int]:
    """A process of 60 MB and three forks of it, which also share 100 MB."""
    command = [sys.executable, "-c", _FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_what_processes_share_counts_once_and_shared_memory_does_not(family: int) -> None:
    watch = TaskMemory(family)
    watch.limit = 40 * MB
    assert 60 * MB <= watch.excess(10.0) < 110 * MB
    watch.limit = 110 * MB
    assert watch.excess(20.0) == 0
    watch.limit = 40 * MB
    assert watch.excess(20.5) == 0, "a slow look is not taken all the time"
    assert watch.excess(21.0) > 0
