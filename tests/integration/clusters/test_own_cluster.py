"""The cluster of an executor's own: one process, and another one when it dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import psutil
import pytest

import manyhands
from harness.processes import Gate, eventually, has_ended, no_descriptor_left, wait_at
from harness.threads import no_thread_left
from manyhands._local import embedded

BOUND = 110.0


@pytest.fixture
def executor() -> Iterator[manyhands.Executor]:
    with manyhands.Executor(2) as started:
        yield started


def pid_of(executor: manyhands.Executor) -> int:
    cluster = executor._connection.cluster
    assert cluster is not None
    return cluster.pid


def kill(executor: manyhands.Executor) -> int:
    pid = pid_of(executor)
    os.kill(pid, signal.SIGKILL)
    return pid


def work(n: int) -> int:
    return sum(range(5_000)) and n


def killed_by_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def for_ever() -> None:
    threading.Event().wait()


def test_broker_and_node_are_one_process(executor: manyhands.Executor) -> None:
    assert executor.submit(abs, -1).result(BOUND) == 1
    with manyhands.Client(executor.address) as client:
        [node] = client.query("nodes")
    assert node["pid"] == pid_of(executor), "the process that was started for the broker"


def test_it_is_gone_behind_its_executor() -> None:
    with manyhands.Executor(1) as executor:
        pids = [pid_of(executor), executor.submit(os.getpid).result(BOUND)]
    eventually(lambda: all(map(has_ended, pids)), what="it is gone")


@pytest.mark.parametrize("nbytes", [100, 40_000, 200_000, 3_000_000])
def test_arrays_come_back_whole(executor: manyhands.Executor, nbytes: int) -> None:
    made = [executor.submit(np.full, nbytes, n % 256, np.uint8) for n in range(60)]
    for n, future in enumerate(made):
        array = future.result(BOUND)
        assert array.nbytes == nbytes
        assert (array == n % 256).all()


def test_a_task_that_kills_its_process_fails_alone(executor: manyhands.Executor) -> None:
    others = [executor.submit(work, n) for n in range(200)]
    with pytest.raises(manyhands.TaskCrashed, match="SIGKILL"):
        executor.submit(killed_by_itself).result(BOUND)
    assert [other.result(BOUND) for other in others] == list(range(200))


def test_tasks_outlive_the_process(
    executor: manyhands.Executor, caplog: pytest.LogCaptureFixture
) -> None:
    child = executor.submit(os.getpid).result(BOUND)
    futures = [executor.submit(work, n) for n in range(4_000)]
    futures[0].result(BOUND)
    with caplog.at_level(logging.WARNING, "manyhands.client"):
        first = kill(executor)
        assert [future.result(BOUND) for future in futures] == list(range(4_000))
    assert "died of SIGKILL; another takes its place" in caplog.text
    assert pid_of(executor) != first
    eventually(lambda: has_ended(child), what="the children of the first are gone")


def test_a_successor_works_where_the_first_did(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = executor.submit(os.getcwd).result(BOUND)
    monkeypatch.chdir(tmp_path)
    first = kill(executor)
    assert executor.submit(os.getcwd).result(BOUND) == where
    assert pid_of(executor) != first


def test_a_running_task_runs_again(executor: manyhands.Executor, tmp_path: Path) -> None:
    began, go_on = tmp_path / "began", tmp_path / "go-on"
    os.mkfifo(began)
    os.mkfifo(go_on)

    def twice() -> str:
        with began.open("w") as file:
            file.write("here")
        return go_on.read_text()

    future = executor.submit(twice)
    assert began.read_text() == "here"
    kill(executor)
    assert began.read_text() == "here", "the second time"
    go_on.write_text("done")
    assert future.result(BOUND) == "done"


def test_one_that_dies_again_and_again_is_given_up(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "DEATHS", 2)
    executor.submit(abs, -1).result(BOUND)
    stopped: Future[None] = executor.submit(for_ever)
    first = kill(executor)
    eventually(lambda: pid_of(executor) != first, what="another has started")
    kill(executor)
    with pytest.raises(manyhands.ManyhandsError, match="died of SIGKILL, 2 times within"):
        stopped.result(BOUND)
    with pytest.raises(manyhands.ManyhandsError, match="2 times within"):
        executor.submit(abs, -1)


def test_one_that_cannot_be_replaced_is_given_up(
    executor: manyhands.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    future: Future[None] = executor.submit(for_ever)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    kill(executor)
    with pytest.raises(manyhands.ManyhandsError, match=r"died of SIGKILL, and .*/nowhere/python"):
        future.result(BOUND)


def test_a_successor_waits_for_what_the_system_is_short_of(
    executor: manyhands.Executor, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    future = executor.submit(wait_at, gate.path)
    with no_descriptor_left():
        kill(executor)
        eventually(lambda: "trying again" in caplog.text)
        assert "another process cannot start yet: [Errno 24] Too many open files" in caplog.text
    gate.open()
    assert future.result(BOUND) == "through"


def test_a_stop_in_its_life_costs_nothing(executor: manyhands.Executor) -> None:
    process = psutil.Process(pid_of(executor))
    futures = [executor.submit(work, n) for n in range(500)]
    futures[0].result(BOUND)
    process.suspend()
    more = [executor.submit(work, n) for n in range(500)]
    process.resume()
    assert [future.result(BOUND) for future in (*futures, *more)] == [*range(500), *range(500)]


def test_durable_tasks_are_lost_with_the_process_and_say_so(tmp_path: Path) -> None:
    began = tmp_path / "began"
    os.mkfifo(began)

    def never_ends() -> None:
        began.write_text("here")
        threading.Event().wait()

    with manyhands.Executor(1, durable=True) as executor:
        assert executor.submit(abs, -1).result(BOUND) == 1
        lost = executor.submit(never_ends)
        assert began.read_text() == "here"
        kill(executor)
        with pytest.raises(manyhands.TaskLost, match="a broker that had no journal"):
            lost.result(BOUND)
        assert executor.submit(abs, -2).result(BOUND) == 2


def is_shut_down(executor: manyhands.Executor) -> bool:
    """What libraries ask, each time anew."""
    return executor._shutdown


def test_libraries_find_what_they_read_of_the_standard_librarys_pools() -> None:
    with manyhands.Executor(3) as executor, manyhands.Pool(3, abs, (1,), 5) as pool:
        assert executor._max_workers == executor.with_options(name="other")._max_workers == 3
        assert not is_shut_down(executor)
        assert (pool._processes, pool._maxtasksperchild) == (3, 5)
        assert [slot.is_alive() for slot in pool._pool] == [True] * 3
        assert (pool._initializer, pool._initargs) == (abs, (1,))
        result = pool.map_async(abs, [-1, -2, -3], chunksize=2)
        assert result.get(BOUND) == [1, 2, 3]
        assert (result._number_left, result._chunksize) == (0, 2)
    assert is_shut_down(executor)
    with manyhands.LocalCluster(nodes=2, slots=2) as cluster:
        with manyhands.Pool(address=cluster.address) as wide:
            eventually(lambda: wide._processes == 4)
        with manyhands.Executor(address=cluster.address) as unbounded:
            assert unbounded._max_workers == 4
        assert unbounded._max_workers == os.cpu_count(), "there is no cluster to ask"


def test_programs_find_how_many_tasks_have_not_ended(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with manyhands.Executor(2) as executor, manyhands.Pool(2) as pool:
        results = [pool.apply_async(wait_at, (gate.path,)) for _ in range(5)]
        futures = [executor.submit(wait_at, gate.path) for _ in range(3)]
        assert (len(pool._cache), pool._taskqueue.qsize()) == (5, 3)
        assert (len(executor._pending_work_items), executor._work_queue.qsize()) == (3, 1)
        assert not executor._work_queue.empty()
        gate.open()
        eventually(lambda: not pool._cache)
        assert all(result.ready() for result in results)
        eventually(lambda: not executor._pending_work_items)
        assert all(future.done() for future in futures)
        for _ in range(100):
            result = pool.apply_async(abs, (-1,))
            while pool._cache:
                pass
            assert result.ready()


def test_a_task_that_puts_something_in_the_place_of_pickle_harms_no_other() -> None:
    def spoil() -> int:
        import pickle

        pickle.dumps = pickle.loads = None  # type: ignore[assignment]
        return 1

    with manyhands.Executor(1) as executor:
        assert executor.submit(spoil).result(BOUND) == 1
        assert executor.submit(abs, -2).result(BOUND) == 2
        assert executor.submit(lambda: [3]).result(BOUND) == [3]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it listens on TCP")
def test_no_zeromq_is_loaded_where_nothing_goes_by_tcp(executor: manyhands.Executor) -> None:
    assert executor.submit(abs, -7).result(BOUND) == 7
    maps = Path(f"/proc/{pid_of(executor)}/maps").read_text(encoding="utf-8")
    assert "msgpack" in maps, "this is where extension modules are seen"
    assert "zmq" not in maps


def test_each_report_of_its_node_is_printed_once(capfd: pytest.CaptureFixture[str]) -> None:
    with manyhands.Executor(1) as executor:
        executor.submit(os.umask, 0o77).result(BOUND)
        assert executor.submit(abs, -1).result(BOUND) == 1
    printed = capfd.readouterr().err.splitlines()
    assert len([line for line in printed if "replacing the child of slot 0" in line]) == 1


def test_without_a_thread_for_its_client_it_ends() -> None:
    before = psutil.Process().children()
    with no_thread_left(), pytest.raises(OSError, match="the system gives no thread"):
        manyhands.Executor(2)
    assert psutil.Process().children() == before


def test_without_a_thread_that_would_replace_it_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children()

    def keep(cluster: embedded.EmbeddedCluster, give_up: Callable[[BaseException], None]) -> None:
        with no_thread_left():
            kept(cluster, give_up)

    kept = embedded.EmbeddedCluster.keep
    monkeypatch.setattr(embedded.EmbeddedCluster, "keep", keep)
    with pytest.raises(OSError, match="the system gives no thread"):
        manyhands.Executor(2)
    assert psutil.Process().children() == before
