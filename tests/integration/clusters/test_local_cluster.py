"""`LocalCluster`, and executors and pools with a cluster of their own, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import manyhands
from harness.processes import eventually, has_ended
from manyhands import Client, Executor, LocalCluster, Pool
from manyhands_shared.errors import RemoteTraceback
from manyhands_shared.transport.address import is_local


def run_script(text: str, folder: Path, *options: str, timeout: float = 110) -> str:
    """Run a user's script in a fresh interpreter; what it printed, having checked that it is well."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, str(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def gone(*pids: int) -> bool:
    return all(map(has_ended, pids))


def test_a_cluster_works_and_leaves_nothing() -> None:
    with LocalCluster(nodes=2, slots=1) as cluster:
        pids = cluster.pids
        assert len(pids) == 3
        assert is_local(cluster.address)
        with Executor(address=cluster.address) as executor:
            futures = [executor.submit(pow, n, 2) for n in range(100)]
            assert [future.result(60) for future in futures] == [n * n for n in range(100)]
        with Client(cluster.address) as client:
            eventually(lambda: len(client.query("nodes")) == 2)
        assert "nodes=2" in repr(cluster)
    assert gone(*pids)
    cluster.close()


def test_errors_come_with_the_remote_traceback() -> None:
    def explode() -> None:
        raise KeyError("over there")

    with LocalCluster(nodes=1) as cluster, Executor(address=cluster.address) as executor:
        with pytest.raises(KeyError, match="over there") as caught:
            executor.submit(explode).result(60)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in explode" in str(caught.value.__cause__)


def test_arrays_there_and_back() -> None:
    with LocalCluster(nodes=1) as cluster, Executor(address=cluster.address) as executor:
        for shape in [(), (0,), (10,), (1000, 300), (3000, 1000)]:
            array = np.full(shape, 1.5)
            result = executor.submit(np.negative, array).result(60)
            np.testing.assert_array_equal(result, -array)
            if shape:
                result += 1


def test_an_initializer_of_a_script_sets_globals_for_its_functions(tmp_path: Path) -> None:
    printed = run_script(
        """
        import manyhands
        def init(value):
            global state
            state = value
        def get(x):
            return state + x
        with manyhands.Pool(1, init, (10,)) as pool:
            print(pool.map(get, range(3)), pool.apply(get, (5,)))
        """,
        tmp_path,
    )
    assert printed == "[10, 11, 12] 15\n"


def test_a_fresh_script_needs_no_guard_and_finds_its_modules(tmp_path: Path) -> None:
    (tmp_path / "helper_of_the_user.py").write_text(
        "class Thing:\n    x = 7\ndef get(): return Thing()"
    )
    printed = run_script(
        """
        import manyhands, helper_of_the_user
        K = 2
        def f(x):
            return x * K
        with manyhands.Pool() as pool:
            print(pool.map(f, range(4)), pool.apply(lambda: helper_of_the_user.get().x))
        with manyhands.Executor() as executor:
            print(executor.submit(helper_of_the_user.get).result().x)
        """,
        tmp_path,
    )
    assert printed == "[0, 2, 4, 6] 7\n7\n"


def test_an_executor_left_open_finishes_at_exit(tmp_path: Path) -> None:
    run_script(
        """
        import manyhands, pathlib
        def write(n):
            pathlib.Path(f"out{n}").write_text(str(n))
        executor = manyhands.Executor(2)
        for n in range(20):
            executor.submit(write, n)
        """,
        tmp_path,
    )
    assert sorted(int(path.read_text()) for path in tmp_path.glob("out*")) == list(range(20))


def test_a_pool_left_open_ends_at_exit(tmp_path: Path) -> None:
    printed = run_script(
        """
        import manyhands, time, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        pool = manyhands.Pool(1)
        print(pool.apply(abs, (-1,)))
        pool.apply_async(time.sleep, (1000,))
        print(pool._connection.cluster.pid)
        """,
        tmp_path,
    )
    first, pids = printed.splitlines()
    assert first == "1"
    eventually(lambda: gone(*map(int, pids.split())))


@pytest.mark.parametrize("own", [True, False])
def test_a_killed_script_takes_its_cluster_along(tmp_path: Path, own: bool) -> None:
    script = tmp_path / "script.py"
    start = (
        "executor = manyhands.Executor(1)\npids = [executor._connection.cluster.pid]\n"
        if own
        else "cluster = manyhands.LocalCluster(nodes=1)\npids = cluster.pids\n"
        "executor = manyhands.Executor(address=cluster.address)\n"
    )
    script.write_text(
        "import manyhands, os, threading\n"
        f"{start}"
        "executor.submit(abs, -1).result()\n"
        "print(*pids, executor.submit(os.getpid).result(), flush=True)\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = list(map(int, process.stdout.readline().split()))
        process.kill()
    assert len(pids) == (2 if own else 3)
    eventually(lambda: gone(*pids))


def test_interrupting_a_script_ends_it_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import manyhands, time\n"
        "with manyhands.Pool(1) as pool:\n"
        "    pool.apply(abs, (-1,))\n"
        "    print(pool._connection.cluster.pid, flush=True)\n"
        "    pool.apply(time.sleep, (1000,))\n"
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = list(map(int, process.stdout.readline().split()))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    eventually(lambda: gone(*pids))


def test_a_fork_cannot_use_its_parents_session(tmp_path: Path) -> None:
    printed = run_script(
        """
        import manyhands, os, sys
        executor = manyhands.Executor(1)
        assert executor.submit(abs, -1).result() == 1
        client = manyhands.Client(executor.address)
        pid = os.fork()
        if not pid:
            try:
                client.query("stats")
            except manyhands.ClusterClosed as error:
                print("asked:", error, flush=True)
            try:
                executor.submit(abs, -1)
            except manyhands.ClusterClosed as error:
                print("child:", error, flush=True)
            executor.shutdown()
            with manyhands.Executor(1) as own:
                print("own:", own.submit(abs, -3).result(), flush=True)
            sys.exit(0)  # with its exit handlers, which must leave the parent's cluster alone
        assert os.waitpid(pid, 0)[1] == 0
        print("parent:", executor.submit(abs, -2).result())
        executor.shutdown()
        """,
        tmp_path,
    )
    asked, child, own, parent = printed.splitlines()
    assert asked.startswith("asked: this process was forked")
    assert "forked" in child
    assert own == "own: 3"
    assert parent == "parent: 2"


def test_a_killed_node_costs_no_result() -> None:
    def work(n: int) -> int:
        return sum(range(20_000)) and n

    with LocalCluster(nodes=2, slots=1) as cluster, Executor(address=cluster.address) as executor:
        with Client(cluster.address) as client:
            eventually(lambda: len(client.query("nodes")) == 2)
        futures = [executor.submit(work, n) for n in range(2_000)]
        futures[0].result(60)
        os.kill(cluster.nodes[0].pid, signal.SIGKILL)
        assert [future.result(60) for future in futures] == list(range(2_000))


def test_a_cancelled_task_frees_its_slot() -> None:
    with LocalCluster(nodes=1, slots=1) as cluster, Executor(address=cluster.address) as executor:
        started = executor.submit(_forever)
        with Client(cluster.address) as client:
            eventually(lambda: any(job["active"] for job in client.query("jobs")))
        assert started.cancel()
        assert executor.submit(abs, -1).result(60) == 1


def _forever() -> None:
    threading.Event().wait()


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="fewer than 0 nodes"):
        LocalCluster(nodes=-1)
    with pytest.raises(ValueError, match="at least 1 slot"):
        LocalCluster(slots=0)
    makes: list[Callable[[], object]] = [
        lambda: LocalCluster(slots=10**30),
        lambda: Executor(10**30),
        lambda: Pool(10**30),
    ]
    for make in makes:
        with pytest.raises(ValueError, match="at most 65536 slots, not 10000"):
            make()


def test_importing_costs_little() -> None:
    code = (
        "import sys, manyhands\n"
        "heavy = {'numpy', 'pydantic', 'click', 'rich', 'psutil', 'multiprocessing', 'cloudpickle'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "manyhands.Executor, manyhands.Client, manyhands.LocalCluster\n"
        "print(sorted(heavy - {'cloudpickle', 'multiprocessing'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n[]\n"
    assert set(manyhands.__all__) <= set(dir(manyhands))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = manyhands.nonsense


def test_every_public_name_is_there() -> None:
    for name in manyhands.__all__:
        assert getattr(manyhands, name) is not None
    assert Pool is manyhands.Pool
