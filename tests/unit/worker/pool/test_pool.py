"""The pool survives whatever its children do; nothing is lost, and no innocent task is blamed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from harness.payloads import PATIENCE
from harness.pool.pool_rig import PoolRig
from harness.processes import Gate, eventually, wait_at
from manyhands_shared.payloads.wrappers import Setup
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import events
from manyhands_worker.core.model import Rules
from manyhands_worker.ipc import slab
from manyhands_worker.pool import pool as pool_module


def _alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def _double(value: int) -> int:
    return value * 2


def _stay(path: str = "") -> None:
    if path:
        Path(path).write_text(str(os.getpid()))
    threading.Event().wait(600)


def _pid() -> int:
    return os.getpid()


def _print_and_stay() -> None:
    print("here", flush=True)
    time.sleep(600)


def test_results_come_back_in_full(rig: Callable[..., PoolRig]) -> None:
    pool = rig(slots=2)
    numbers = pool.submit(_double, 21, count=2_000)
    assert set(pool.outcome(numbers)) == {(Status.OK, 42)}


def test_lambda_and_closure(rig: Callable[..., PoolRig]) -> None:
    base = 40
    assert rig().call(lambda x: x + base, 2) == (Status.OK, 42)


def test_function_comes_once_per_child_and_again_after_eviction(
    rig: Callable[..., PoolRig],
) -> None:
    pool = rig()
    functions = [lambda n=n: n for n in range(5)]
    for _ in range(2):
        assert [pool.call(f)[1] for f in functions] == [0, 1, 2, 3, 4]
    child = pool.child()
    sent = child.send
    child._known._limit = 1  # the node believes that its child forgets; so it sends again
    assert sent is not None
    assert pool.call(functions[0]) == (Status.OK, 0)


def test_raised_exception_tells_its_story(rig: Callable[..., PoolRig]) -> None:
    def task() -> None:
        raise ValueError("no such thing")

    status, failure = rig().call(task)
    assert status == Status.RAISED
    assert (failure.type, failure.message) == ("ValueError", "no such thing")
    assert "in task" in failure.traceback
    assert "runner.py" not in failure.traceback


@pytest.mark.parametrize(
    ("task", "status", "words"),
    [
        (lambda: sys.exit(3), Status.RAISED, "the task called sys.exit(3)"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), Status.RAISED, "KeyboardInterrupt"),
        (threading.Lock, Status.UNSENDABLE, "cannot be pickled"),
    ],
)
def test_odd_endings(
    rig: Callable[..., PoolRig], task: Callable[..., Any], status: Status, words: str
) -> None:
    pool = rig()
    ended, failure = pool.call(task)
    assert ended == status
    assert words in failure.message
    assert pool.call(abs, -1) == (Status.OK, 1)
    assert not pool.deaths()


def test_evil_values_and_exceptions_leave_the_next_task_alone(rig: Callable[..., PoolRig]) -> None:
    class Evil(Exception):
        def __init__(self, *args: Any) -> None:
            raise RuntimeError("init")

        def __str__(self) -> str:
            raise RuntimeError("str")

        __repr__ = __str__

        def __del__(self) -> None:
            sys.exit(1)

    class WillNotLoad:
        def __reduce__(self) -> Any:
            return (int, ("not a number",))

    class WillNotDump:
        def __reduce__(self) -> Any:
            raise SystemExit(9)

    def raise_evil() -> None:
        raise Evil.__new__(Evil)

    def return_evil() -> Any:
        return Evil.__new__(Evil)

    pool = rig()
    assert pool.call(raise_evil)[0] == Status.RAISED
    assert pool.call(return_evil)[0] == Status.UNSENDABLE
    status, failure = pool.call(WillNotLoad)
    assert status == Status.UNSENDABLE
    assert "cannot be loaded again" in failure.message
    assert pool.call(WillNotDump)[0] == Status.UNSENDABLE
    assert pool.call(abs, -1) == (Status.OK, 1)
    assert not pool.deaths()


def test_function_that_does_not_load_names_the_python_version(rig: Callable[..., PoolRig]) -> None:
    class Absent:
        def __reduce__(self) -> Any:
            return (__import__, ("no_such_module_anywhere",))

    pool = rig()
    status, failure = pool.call(Absent())
    assert status == Status.RAISED
    assert "does not load" in failure.message
    assert "no_such_module_anywhere" in failure.message
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in failure.message
    assert pool.call(abs, -1) == (Status.OK, 1)


@pytest.mark.parametrize(
    ("task", "story"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "died of SIGKILL (9)"),
        (lambda: os._exit(7), "exited with code 7"),
        (lambda: ctypes.string_at(0), "died of SIGSEGV (11)"),
    ],
)
def test_death_in_a_task_is_told_and_blamed(
    rig: Callable[..., PoolRig], task: Callable[..., Any], story: str
) -> None:
    pool = rig()
    pid = pool.until(lambda: pool.pool.pid(0))
    status, text = pool.call(task)
    assert status == Status.CRASHED
    assert text.startswith(f"child {pid} {story}")
    assert "MiB" in text
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_killed_from_outside_in_a_task(rig: Callable[..., PoolRig], tmp_path: Path) -> None:
    pool = rig()
    number = pool.submit(_stay)
    os.kill(pool.started(), signal.SIGKILL)
    assert pool.outcome(number)[0][0] == Status.CRASHED
    assert len(pool.deaths()) == 1


def test_idle_child_killed_is_replaced_and_nobody_blamed(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    first = pool.call(_pid)[1]
    os.kill(first, signal.SIGKILL)
    pool.until(pool.deaths)
    assert pool.deaths()[0].blamed == 0
    assert pool.call(_pid)[1] != first


def test_a_death_and_the_last_output_seen_in_one_turn(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pool.submit(_print_and_stay, rules=Rules(echo=True))
    pid, child = pool.started(), pool.child()
    pool.until(lambda: child.heard, "the output is listened to")
    os.kill(pid, signal.SIGKILL)
    assert wait([child.sentinel], PATIENCE)
    ready = pool.selector.select(0)
    found = {key.fd for key, _ in ready}
    assert {child.sentinel, *child.heard} <= found
    for key, mask in sorted(ready, key=lambda one: one[0].fd != child.sentinel):
        key.data(mask)
    assert pool.call(_pid)[1] != pid


def test_killed_while_it_writes_a_result(rig: Callable[..., PoolRig]) -> None:
    pool = rig(slab_bytes=0)

    def much() -> bytes:
        return bytes(64 << 20)

    number = pool.submit(much)
    pid = pool.started()
    child = pool.child()
    # The node reads nothing of it until the pipe is full and the child stands in the middle.
    eventually(lambda: select.select([child.socket], [], [], 0)[0], what="the first bytes came")
    os.kill(pid, signal.SIGKILL)
    assert pool.outcome(number)[0][0] == Status.CRASHED
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_only_the_running_task_is_blamed(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pool.outcome(pool.submit(_double, 1, count=50))  # now they are known to be short

    def deadly(number: int, fatal: int, path: str) -> int:
        if number == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    digest_numbers = pool.submit(deadly, 0, 1, "", count=1)
    assert pool.outcome(digest_numbers)[0] == (Status.OK, 0)
    # One batch in which the middle one kills.
    numbers = pool.submit(deadly, 0, 1, "", count=9)
    chunk = pool.work.queue.front()
    from manyhands_shared.payloads import pickled as serial

    assert chunk is not None
    chunk.bodies[4] = serial.dumps(((1, 1, ""), {}))
    ended = pool.outcome(numbers)
    assert [status for status, _ in ended] == [Status.OK] * 4 + [Status.CRASHED] + [Status.OK] * 4
    assert len(pool.deaths()) == 1


def test_unstarted_tasks_are_taken_from_behind_a_slow_one(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    pool = rig()
    gate = Gate(tmp_path / "gate")

    def wait_for(path: str) -> str:
        return wait_at(Path(path)) if path else path

    pool.outcome(pool.submit(wait_for, "", count=30))
    # They count as short ones, however long a busy machine has taken.
    pool.work._seconds.update(dict.fromkeys(pool.work._seconds, 1e-4))
    slow = pool.submit(wait_for, str(gate.path))
    quick = pool.submit(wait_for, "", count=8)
    # All in one batch, the first of them slow.
    pool.until(lambda: pool.work.slots[0].batches, "handed over")
    pool.started()
    unstarted = pool.work.slots[0].unstarted()
    assert unstarted
    serial = pool.work.begin_revoke(0)
    assert serial is not None
    pool.pool.revoke(0, serial, 0.0)
    pool.until(lambda: any(isinstance(e, events.Claimed) for e in pool.events))
    assert pool.work.queue.ready == len(quick)
    gate.open()
    assert {s for s, _ in pool.outcome(slow + quick)} == {Status.OK}


def test_kill_ends_a_task_that_ignores_signals_and_its_grandchildren(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    note = tmp_path / "grandchild"

    def stubborn(path: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with subprocess.Popen(["sleep", "600"]) as process:
            Path(path).write_text(str(process.pid))
            process.wait()

    pool = rig()
    pool.submit(stubborn, str(note))
    pool.until(lambda: note.exists() and note.read_text())
    grandchild = int(note.read_text())
    pool.work.condemn(0)
    pool.pool.kill(0)
    pool.until(pool.deaths)
    assert pool.deaths()[0].asked
    eventually(lambda: not _alive(grandchild))
    pool.work.queue.remove(("job", 1), range(10))
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_grandchildren_of_a_child_that_dies_by_itself_go_too(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    note = tmp_path / "grandchild"

    def spawn_and_die(path: str) -> None:
        Path(path).write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        os._exit(1)

    assert rig().call(spawn_and_die, str(note))[0] == Status.CRASHED
    eventually(lambda: not _alive(int(note.read_text())))


def test_task_that_closes_every_descriptor(rig: Callable[..., PoolRig]) -> None:
    pool = rig()

    def close_all() -> None:
        os.closerange(3, 256)
        threading.Event().wait(600)

    status, text = pool.call(close_all)
    assert status == Status.CRASHED
    assert "closed its connection" in text
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_task_that_writes_garbage_to_its_pipe(rig: Callable[..., PoolRig]) -> None:
    pool = rig()

    def scribble() -> None:
        for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - numbers are wanted
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.write(fd, b"\xff" * 64)
            except OSError:
                continue
        threading.Event().wait(600)

    status, text = pool.call(scribble)
    assert status == Status.CRASHED
    assert "was killed because it wrote a header of" in text
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_initializer_runs_once_per_child_and_key(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def note(path: str) -> None:
        with Path(path).open("a") as file:
            file.write("x")

    pool = rig()
    for function in (_double, abs):
        setup = Setup(function, note, (str(log),), b"key")
        assert pool.call(setup, 4)[0] == Status.OK
    assert log.read_text() == "x"
    assert pool.call(Setup(abs, note, (str(log),), b"other"), 4)[0] == Status.OK
    assert log.read_text() == "xx"


def test_initializer_that_fails_is_tried_again(rig: Callable[..., PoolRig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def need(path: str) -> None:
        Path(path).read_text()

    pool = rig()
    setup = Setup(_double, need, (str(gate),), b"key")
    status, failure = pool.call(setup, 4)
    assert status == Status.RAISED
    assert "the initializer failed" in failure.message
    assert failure.type == "manyhands.InitializerFailed"
    assert failure.bases[0] == "FileNotFoundError"
    gate.write_text("open")
    assert pool.call(setup, 4) == (Status.OK, 8)


def test_tasks_per_child(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pids = [
        pid for _, pid in pool.outcome(pool.submit(_pid, count=7, rules=Rules(tasks_per_child=3)))
    ]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    assert not pool.deaths()


def test_out_of_descriptors_is_told_and_overcome(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pool.call(abs, -1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = pool.pool.pid(0)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        os.kill(child, signal.SIGKILL)
        # The dead child gives some back; other processes may take them.
        taken: list[int] = []
        pool.until(lambda: _take_all(taken) and _troubles(pool))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert "Too many open files" in _troubles(pool)[0].text
    assert pool.call(abs, -1) == (Status.OK, 1)


def _take_all(taken: list[int]) -> bool:
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    return True


def _troubles(pool: Any) -> list[events.Trouble]:
    return [event for event in pool.events if isinstance(event, events.Trouble)]


def test_children_that_die_young_again_and_again_are_replaced_more_slowly(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long it takes to kill one.
    monkeypatch.setattr(pool_module, "HEALTHY_SECONDS", 3_600.0)
    pool = rig()
    for count in range(1, 5):
        pid = pool.until(lambda: pool.pool.pid(0))
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        pool.until(lambda: len(pool.deaths()) == count)  # noqa: B023 - at once
    assert pool.pool._births.due[0] > killed + 0.2
    assert pool.call(abs, -1) == (Status.OK, 1)


def test_no_shared_memory_takes_the_other_way(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slab, "free_shared_memory", lambda: 0)
    pool = rig()
    value = pool.call(lambda: bytearray(10 << 20))
    assert value == (Status.OK, bytearray(10 << 20))
    assert [e.kind for e in pool.events if isinstance(e, events.Trouble)] == ["small-shm"]


def test_child_has_an_empty_stdin_and_few_threads(rig: Callable[..., PoolRig]) -> None:
    def look() -> tuple[str, bool]:
        return sys.stdin.read(), os.environ["OMP_NUM_THREADS"].isdigit()

    assert rig().call(look) == (Status.OK, ("", True))


@pytest.mark.parametrize("seed", range(3))
def test_children_killed_all_the_time_lose_nothing(rig: Callable[..., PoolRig], seed: int) -> None:
    chance = random.Random(seed)
    pool = rig(slots=2, slab_bytes=1 << 20)

    def work(size: int) -> bytes:
        return bytes(size)

    numbers = [n for size in (0, 100, 70_000) * 20 for n in pool.submit(work, size, count=60)]
    pool.kill_children(chance, 40)
    ended = pool.outcome(numbers)
    assert {status for status, _ in ended} <= {Status.OK, Status.CRASHED}
    crashed = sum(status == Status.CRASHED for status, _ in ended)
    assert crashed <= len(pool.deaths())


def test_close_leaves_nothing(rig: Callable[..., PoolRig], tmp_path: Path) -> None:
    pool = rig(slots=2)
    pool.submit(_stay, count=2)
    pids = [pool.started(0), pool.started(1)]
    pool.pool.close()
    assert not any(map(_alive, pids))
