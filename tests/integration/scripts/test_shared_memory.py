"""`SharedMemory` of the script in tasks, and of tasks in the script."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.processes import without_waits

BOUND = 110.0
CLUSTERS = {
    "own": "pool = manyhands.Pool(1)",
    "nodes": "local = manyhands.LocalCluster(nodes=1); pool = manyhands.Pool(address=local.address)",
}
FUNCTIONS = """
from multiprocessing.shared_memory import ShareableList, SharedMemory
import manyhands

def write(name):
    block = SharedMemory(name=name)
    block.buf[0] = 7
    block.close()

def add(shared):
    shared[1] += 5
    shared.shm.close()

def remove(name):
    block = SharedMemory(name=name)
    block.close()
    block.unlink()

def make():
    block = SharedMemory(create=True, size=100)
    block.buf[0] = 3
    block.close()
    return block.name

def end():
    pool.terminate()
    if "local" in globals():
        local.close()

def is_there(name):
    try:
        SharedMemory(name=name).close()
    except FileNotFoundError:
        return False
    return True
"""


def run(script: str) -> str:
    """What a script prints, which says nothing else: the tracker complains on standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", FUNCTIONS + script],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (ended.returncode, without_waits(ended.stderr)) == (0, "")
    return ended.stdout


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("first", ["memory", "pool"])
def test_what_a_task_attaches_is_there_as_long_as_the_script_wants(
    cluster: str, first: str
) -> None:
    memory = "block = SharedMemory(create=True, size=100); shared = ShareableList([1, 2])"
    parts = [memory, CLUSTERS[cluster]]
    said = run(
        "\n".join(parts if first == "memory" else reversed(parts))
        + """
pool.apply(write, (block.name,))
pool.apply(add, (shared,))
end()
print(block.buf[0], shared[1], is_there(block.name), is_there(shared.shm.name))
for each in (block, shared.shm):
    each.close()
    each.unlink()
"""
    )
    assert said == "7 7 True True\n"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_tasks_and_script_may_remove_what_the_other_made(cluster: str) -> None:
    said = run(
        "block = SharedMemory(create=True, size=100)\n"
        + CLUSTERS[cluster]
        + """
name = pool.apply(make)
pool.apply(remove, (block.name,))
block.close()
end()
made = SharedMemory(name=name)
print(made.buf[0], is_there(block.name))
made.close()
made.unlink()
"""
    )
    assert said == "3 False\n"
