"""Where control groups allow, the kernel itself lets a task have no more memory than its limit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.pool.pool_rig import PoolRig
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import Rules
from manyhands_worker.host.child_cgroups import ChildCgroup
from manyhands_worker.host.escaped_processes import EscapedProcesses
from manyhands_worker.host.memory_groups import MemoryGroups
from manyhands_worker.pool.leftovers import Leftovers
from manyhands_worker.pool.task_memory import TaskMemory

MB = 10**6
LIMIT = Rules(memory=150 * MB)
WANTED = "wanted more memory than its limit of 150.0 MB, and was killed on node rig"


@pytest.fixture
def pool(rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolRig]:
    """A pool whose children have groups, and whose node does not look at their memory."""
    leftovers = Leftovers(ChildCgroup.make() or EscapedProcesses())
    if leftovers.memory is None:
        leftovers.close()
        pytest.skip("needs a memory cgroup that it may divide (root, cgroup v1 or delegated v2)")
    monkeypatch.setattr(TaskMemory, "excess", lambda *_: 0)
    made = rig(leftovers=leftovers)
    yield made
    made.pool.close()
    assert not any(map(Path.exists, leftovers.cgroups))


def have(size: int) -> int:
    return len(b"x" * size)


def have_elsewhere(size: int) -> int:
    """Have a program that has it, and bear its death."""
    return subprocess.run([sys.executable, "-c", f"b'x' * {size}"], check=False).returncode


def array(size: int) -> np.ndarray:
    return np.full(size, 7, dtype="u1")


@pytest.mark.parametrize("task", [have, have_elsewhere])
def test_it_cannot_have_more(pool: PoolRig, task: Callable[[int], int]) -> None:
    assert pool.outcome(pool.submit(task, 300 * MB, rules=LIMIT)) == [(Status.RAISED, WANTED)]
    assert pool.call(have, 300 * MB) == (Status.OK, 300 * MB), "others have no such limit"
    assert pool.outcome(pool.submit(have, 90 * MB, rules=LIMIT)) == [(Status.OK, 90 * MB)]
    assert pool.call(have, 300 * MB) == (Status.OK, 300 * MB), "nor has it the child for ever"


def test_a_result_as_large_as_the_limit_allows_is_no_excess(pool: PoolRig) -> None:
    rules = Rules(memory=150 * MB, direct=True)
    for _ in range(3):
        [(status, found)] = pool.outcome(pool.submit(array, 100 * MB, rules=rules))
        assert (status, len(found)) == (Status.OK, 100 * MB)


def test_groups_of_nodes_that_are_no_more_are_removed(tmp_path: Path) -> None:
    groups = MemoryGroups.make(None)
    if groups is None:
        pytest.skip("needs a memory cgroup of version 1 that it may divide")
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = groups.path.with_name(f"manyhands-{gone.pid}-00000000")
    left.mkdir()
    (left / "17").mkdir()
    again = MemoryGroups.make(None)
    assert again is not None
    assert not left.exists()
    for each in (groups, again):
        each.close()
        assert not each.path.exists()
