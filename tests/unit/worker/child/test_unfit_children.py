"""A child that a task has maimed is replaced before it fails the tasks of others."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands_shared.payloads.wrappers import Setup
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import events


def _close_all() -> int:
    os.closerange(0, 4096)
    return 1


def _close_all_but_standard() -> int:
    os.closerange(3, 4096)
    return 1


def _close_output() -> int:
    os.close(1)
    os.close(2)
    return 1


def _cover_output() -> int:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    return 1


def _close_streams() -> int:
    sys.stdout.close()
    sys.stderr.close()
    return 1


def _ignore_signals() -> int:
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    return 1


def _block_signals() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    return 1


def _leave_alarm() -> int:
    signal.setitimer(signal.ITIMER_REAL, 3600)
    return 1


def _remove_directory() -> int:
    path = tempfile.mkdtemp()
    os.chdir(path)
    Path(path).rmdir()
    return 1


def _change_root() -> int:
    path = tempfile.mkdtemp()
    os.chroot(path)
    return 1


def _change_user() -> int:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    return 1


def _shallow() -> int:
    sys.setrecursionlimit(200)
    return 1


def _limit(name: str, soft: int, hard: int) -> Callable[[], int]:
    def limit() -> int:
        resource.setrlimit(getattr(resource, name), (soft, hard))
        return 1

    return limit


def _use_up_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(0)
    except OSError:
        return soft


def _renice() -> int:
    os.nice(5)
    return 1


def _umask() -> int:
    os.umask(0o777)
    return 1


_REPORTED: dict[str, tuple[Callable[[], int], str]] = {
    "close_output": (_close_output, "standard streams"),
    "cover_output": (_cover_output, "standard streams"),
    "close_streams": (_close_streams, "stdout"),
    "ignore": (_ignore_signals, "ignored"),
    "block": (_block_signals, "blocked signals"),
    "alarm": (_leave_alarm, "timer"),
    "directory": (_remove_directory, "working directory"),
    "nofile": (_limit("RLIMIT_NOFILE", 4, 4), "RLIMIT_NOFILE"),
    "fsize": (_limit("RLIMIT_FSIZE", 0, 0), "RLIMIT_FSIZE"),
    "cpu": (_limit("RLIMIT_CPU", 1000, 1000), "RLIMIT_CPU"),
    "memory": (_limit("RLIMIT_AS", 1 << 40, 1 << 40), "RLIMIT_AS"),
    "descriptors": (_use_up_descriptors, ""),
    "nice": (_renice, "priority"),
    "umask": (_umask, "umask"),
    "recursion": (_shallow, "recursion"),
}
_OF_ROOT = {"root": (_change_root, "root directory"), "user": (_change_user, "user or group")}


def _write(name: str) -> int:
    """A task that a maimed child fails."""
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.flush()
    print(name)
    sys.stdout.flush()
    return os.getpid()


@pytest.mark.parametrize("what", [*_REPORTED, *_OF_ROOT])
def test_a_child_that_a_task_has_changed_serves_no_other_function(rig: Any, what: str) -> None:
    if what in _OF_ROOT and os.geteuid():
        pytest.skip("only root may do that")
    task, words = {**_REPORTED, **_OF_ROOT}[what]
    pool = rig()
    pid = pool.call(os.getpid)[1]
    # All in the child's pipe at once: the others stand right behind it.
    numbers = pool.submit(task)
    others = [number for name in "abcdefgh" for number in pool.submit(_write, name)]
    (status, _), *results = pool.outcome([*numbers, *others])
    assert status == Status.OK
    assert [status for status, _ in results] == [Status.OK] * len(others)
    assert pid not in {value for _, value in results}
    told = [
        event.worn for event in pool.events if isinstance(event, events.Finished) and event.worn
    ]
    assert len(told) == 1
    assert words in told[0]
    assert not pool.deaths()


@pytest.mark.parametrize("task", [_close_all, _close_all_but_standard])
def test_a_task_that_closes_the_connection_of_its_child_is_blamed(rig: Any, task: Any) -> None:
    pool = rig()
    numbers = pool.submit(task)
    others = [number for name in "abcdefgh" for number in pool.submit(_write, name)]
    (status, text), *results = pool.outcome([*numbers, *others])
    assert status == Status.CRASHED
    assert "a task closed its connection to the node" in text
    assert [status for status, _ in results] == [Status.OK] * len(others)
    assert len(pool.deaths()) == 1


def test_of_many_short_tasks_the_one_that_closes_all_is_found(rig: Any) -> None:
    pool = rig()
    pool.outcome(pool.submit(abs, -1, count=100))  # so that they come in batches

    def perhaps(close: bool) -> int:
        if close:
            os.closerange(3, 4096)
        return 1

    pool.outcome(pool.submit(perhaps, False, count=100))
    numbers = pool.submit(perhaps, False, count=20)
    culprit = pool.submit(perhaps, True)
    assert len(pool.work.queue._entries) == 1, "they come in batches"
    assert pool.outcome(numbers) == [(Status.OK, 1)] * 20
    assert pool.outcome(culprit)[0][0] == Status.CRASHED


def test_what_an_initializer_changes_is_right_for_its_functions_alone(rig: Any) -> None:
    pool = rig()

    def quota() -> tuple[int, int]:
        return os.getpid(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    setup = Setup(quota, resource.setrlimit, (resource.RLIMIT_NOFILE, (99, 99)), b"k" * 16)
    first = pool.outcome(pool.submit(setup, count=5))
    pids = {value[0] for _, value in first}
    assert {value[1] for _, value in first} == {99}
    assert len(pids) == 1, "the child was replaced within the function"

    def other() -> int:
        return os.getpid()

    same = Setup(other, setup.initializer, setup.initargs, setup.key)
    assert pool.call(same) == (Status.OK, pids.copy().pop()), "it has that initializer too"
    status, (pid, limit) = pool.call(quota)
    assert status == Status.OK
    assert pid not in pids
    assert limit != 99


def test_a_child_that_fails_the_tasks_of_three_functions_in_a_row_is_replaced(rig: Any) -> None:
    pool = rig()

    def poison() -> int:
        sys.modules["json"] = None  # type: ignore[assignment]
        return os.getpid()

    def needs(name: str) -> Callable[[], str]:
        def task() -> str:
            import json

            return name + json.dumps(1)

        return task

    _, pid = pool.call(poison)
    # One function that fails again and again is its own fault.
    assert {status for status, _ in pool.outcome(pool.submit(needs("a"), count=9))} == {
        Status.RAISED
    }
    assert pool.pool.pid(0) == pid
    assert pool.call(needs("b"))[0] == Status.RAISED
    pool.call(needs("c"))
    assert pool.call(needs("d")) == (Status.OK, "d1")
    assert pool.pool.pid(0) != pid


def test_tasks_that_raise_of_themselves_cost_no_child(rig: Any) -> None:
    pool = rig()

    def raises(kind: type[Exception]) -> Callable[[], str]:
        def task() -> str:
            raise kind

        return task

    pool.call(os.getpid)
    pid = pool.pool.pid(0)
    for kind in (ValueError, KeyError, TypeError, ZeroDivisionError, RuntimeError):
        assert pool.call(raises(kind))[0] == Status.RAISED
    assert pool.call(os.getpid) == (Status.OK, pid)


def test_a_change_that_is_undone_is_none(rig: Any) -> None:
    pool = rig()

    def visit() -> int:
        old = os.umask(0o022)
        os.umask(old)
        here = os.getcwd()  # noqa: PTH109 - as a task does
        os.chdir("/")
        os.chdir(here)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 100)
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise ValueError

    pid = pool.call(os.getpid)[1]
    assert pool.call(visit)[0] == Status.RAISED
    assert pool.call(os.getpid) == (Status.OK, pid)
