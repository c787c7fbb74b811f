"""Whole clusters with parts that die: nothing is lost, nothing comes twice, nothing hangs."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import manyhands
from harness.processes import Gate, eventually, wait_at

BOUND = 100.0


def counters(client: manyhands.Client) -> dict[str, int]:
    return dict(client.query("stats")["counters"])


def pool_children(client: manyhands.Client, executor: manyhands.Executor) -> list[int]:
    """Pids of children that run tasks, as tasks themselves tell."""
    return sorted({executor.submit(os.getpid).result(BOUND) for _ in range(20)})


def noted(delivered: list[int], number: int, _: object) -> None:
    """Note that a future has ended."""
    delivered.append(number)


@pytest.mark.timeout(400)
def test_a_hundred_thousand_tasks_survive_the_death_of_children_and_of_a_node(
    cluster: manyhands.LocalCluster, client: manyhands.Client, executor: manyhands.Executor
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    delivered: list[int] = []
    count = 100_000
    futures = []
    # A task that runs in one child after another when these are killed is not given up for that.
    executor = executor.with_options(crash_limit=1_000)
    for number in range(count):
        future = executor.submit(abs, -number)
        future.add_done_callback(partial(noted, delivered, number))
        futures.append(future)
        if number % 10_000 == 5_000:
            node = psutil.Process(rng.choice(cluster.nodes).pid)
            eventually(partial(pool_children_of, node), BOUND, what="a child")[0].kill()
        if number == count // 2:
            os.kill(cluster.nodes[0].pid, signal.SIGKILL)
            cluster.nodes[0].process.wait()
            cluster.nodes.pop(0)
    _, pending = wait(futures, timeout=BOUND)
    assert not pending
    assert [future.result() for future in futures] == list(range(count))
    eventually(lambda: len(delivered) == count)
    assert sorted(delivered) == list(range(count))
    assert counters(client)["tasks_done"] >= count


def pool_children_of(node: psutil.Process) -> list[psutil.Process]:
    """Its children that run tasks, which are those of its fork server."""
    return [child for child in node.children(recursive=True) if is_pool_child(child)]


def is_pool_child(process: psutil.Process) -> bool:
    """Whether it is a child of the fork server, and neither that nor the heartbeat process."""
    try:
        return (
            "forkserver" in " ".join(process.cmdline())
            and process.num_threads() == 1
            and ("forkserver" in " ".join(psutil.Process(process.ppid()).cmdline()))
        )
    except psutil.Error:
        return False


def test_a_killed_child_costs_one_more_attempt(
    client: manyhands.Client, executor: manyhands.Executor, tmp_path: Path
) -> None:
    def die_once(marker: Path) -> str:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second time"

    assert executor.submit(die_once, tmp_path / "marker").result(BOUND) == "second time"
    assert counters(client)["child_deaths"] == 1
    [event] = [event for event in client.query("events") if "SIGKILL" in event["text"]]
    assert "RSS" in event["text"]


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: os._exit(7), "exited with code 7"),
        (lambda: ctypes.string_at(0), "SIGSEGV"),
    ],
    ids=["kill", "exit", "segfault"],
)
def test_a_task_that_always_kills_its_child_is_quarantined_with_its_story(
    executor: manyhands.Executor, ending: Any, words: str
) -> None:
    neighbours = [executor.submit(abs, -number) for number in range(50)]
    poison = executor.submit(ending)
    with pytest.raises(manyhands.TaskCrashed, match=words) as caught:
        poison.result(BOUND)
    assert len(caught.value.story) == 2
    assert all(words in line for line in caught.value.story)
    assert [future.result(BOUND) for future in neighbours] == list(range(50))
    assert executor.submit(abs, -1).result(BOUND) == 1


class Unpicklable(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("made of two")


def test_errors_fail_their_own_future_and_no_other(executor: manyhands.Executor) -> None:
    def raises() -> None:
        raise KeyError("mine")

    def raises_odd() -> None:
        raise Unpicklable(1, 2)

    def leaves() -> None:
        sys.exit(3)

    def returns_lock() -> Any:
        import threading

        return threading.Lock()

    with pytest.raises(KeyError, match="mine") as caught:
        executor.submit(raises).result(BOUND)
    assert "raises" in str(caught.value.__cause__)
    with pytest.raises(manyhands.RemoteError, match="made of two"):
        executor.submit(raises_odd).result(BOUND)
    with pytest.raises(SystemExit) as left:
        executor.submit(leaves).result(BOUND)
    assert left.value.code == 3
    with pytest.raises(manyhands.ResultError, match="pickle"):
        executor.submit(returns_lock).result(BOUND)
    assert executor.submit(abs, -1).result(BOUND) == 1


def in_turn(folder: Path) -> str:
    """Say that this run has begun, and end when it is told to; returns which run it was."""
    number = sum(1 for _ in folder.glob("began-*"))
    (folder / f"began-{number}").touch()
    eventually((folder / f"end-{number}").exists, BOUND)
    return f"run {number}"


def test_a_stopped_node_wakes_to_find_its_results_refused(tmp_path: Path) -> None:
    with (
        manyhands.LocalCluster(nodes=1, slots=1, broker={"lease": 5.0}) as cluster,
        manyhands.Client(cluster.address) as client,
        manyhands.Executor(address=cluster.address) as executor,
    ):
        delivered: list[int] = []
        assert executor.submit(abs, -1).result(BOUND) == 1
        future = executor.submit(in_turn, tmp_path)
        future.add_done_callback(lambda _: delivered.append(1))
        eventually((tmp_path / "began-0").exists)
        node = psutil.Process(cluster.nodes[0].pid)
        node.suspend()
        eventually(lambda: counters(client).get("nodes_condemned") == 1, timeout=BOUND)
        cluster.add_node()
        eventually((tmp_path / "began-1").exists, BOUND, what="it runs elsewhere")
        # Now the first run ends, and its node wakes to tell: while the second still runs.
        (tmp_path / "end-0").touch()
        node.resume()
        eventually(lambda: len(client.query("nodes")) == 2, timeout=BOUND, what="it came back")
        assert executor.submit(abs, -2).result(BOUND) == 2, "and works"
        assert not future.done()
        (tmp_path / "end-1").touch()
        assert future.result(BOUND) == "run 1"
        assert delivered == [1]


def test_neither_a_dead_heartbeat_process_nor_silence_requeues_anything(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with (
        manyhands.LocalCluster(nodes=1, slots=1, broker={"beat_interval": 0.1}) as cluster,
        manyhands.Client(cluster.address) as client,
        manyhands.Executor(address=cluster.address) as executor,
    ):
        eventually(lambda: client.query("nodes") and client.query("nodes")[0]["beats"] > 3)
        executor.submit(abs, -1).result(BOUND)
        future = executor.submit(wait_at, gate.path)
        eventually(lambda: client.query("stats")["active"] == 1)
        node = psutil.Process(cluster.nodes[0].pid)
        [beating] = eventually(partial(beating_of, node), BOUND)
        beating.kill()
        eventually(
            lambda: any(event["kind"].startswith("heartbeat") for event in client.query("events")),
            timeout=BOUND,
            what="the death was reported",
        )
        # Stopped, not dead: from now on there is silence.
        for process in eventually(partial(beating_of, node, but=beating), BOUND):
            process.suspend()
        eventually(lambda: client.query("nodes")[0]["state"] == "suspected", timeout=BOUND)
        assert counters(client)["suspicions"] > 0
        gate.open()
        assert future.result(BOUND) == "through"
        assert counters(client).get("nodes_condemned", 0) == 0
        assert counters(client)["tasks_done"] == 2


def beating_of(node: psutil.Process, but: psutil.Process | None = None) -> list[psutil.Process]:
    """Its heartbeat process, if that is another than one that was killed."""
    return [one for one in node.children(recursive=True) if one != but and uses_udp(one)]


def uses_udp(process: psutil.Process) -> bool:
    try:
        return any(c.type.name == "SOCK_DGRAM" for c in process.net_connections("inet"))
    except psutil.Error:
        return False


ARRAYS = {
    "1 KB": np.arange(128.0),
    "fortran": np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    "strided": np.arange(200_000)[::3],
    "zero-dimensional": np.array(3.5),
    "empty": np.empty((0, 7)),
    "structured": np.array([(1, 2.5, b"x")] * 9_000, dtype="i4,f8,S3"),
    "bool": np.arange(100_000) % 3 == 0,
    "complex": np.arange(50_000) * 1j,
    "datetime": np.arange("2026-01", "2126-01", dtype="M8[D]"),
    "object": np.array([None, "text", 3], dtype=object),
    "big-endian": np.arange(50_000, dtype=">i8"),
    "nested": {"a": (np.arange(40_000), [np.ones((3, 3))]), "b": np.zeros(100_000, "f4")},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_every_kind_come_back_equal(executor: manyhands.Executor, name: str) -> None:
    value = ARRAYS[name]
    answer = executor.submit(lambda x: x, value).result(BOUND)
    assert_same(answer, value)


def assert_same(one: Any, two: Any) -> None:
    if isinstance(two, dict):
        assert one.keys() == two.keys()
        for key, part in two.items():
            assert_same(one[key], part)
    elif isinstance(two, list | tuple):
        assert type(one) is type(two)
        for left, right in zip(one, two, strict=True):
            assert_same(left, right)
    else:
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("megabytes", [1, 16, 128, 1_000])
def test_large_arrays_come_back_whole_and_writable(
    executor: manyhands.Executor, megabytes: int
) -> None:
    if psutil.virtual_memory().available < 8 * megabytes * 1_000_000:
        pytest.skip("not enough memory for an array in four processes")

    def make(count: int) -> Any:
        return np.arange(count, dtype=np.uint32)

    count = megabytes * 250_000
    answer = executor.submit(make, count).result(BOUND)
    assert answer.nbytes == megabytes * 1_000_000
    np.testing.assert_array_equal(answer, np.arange(count, dtype=np.uint32))
    answer[0] = 7
    assert answer[0] == 7
