"""SIGINT in a child, and processes that a task forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from harness.pool.pool_rig import PoolRig
from manyhands_shared.protocol.status import Status


@pytest.mark.parametrize("ending", ["returns", "exits", "exits with words", "raises"])
def test_what_a_fork_of_a_task_comes_to_is_not_its_result(
    rig: Callable[..., PoolRig], ending: str
) -> None:
    def forks() -> Any:
        pid = os.fork()
        if pid == 0:
            if ending == "exits":
                sys.exit(3)
            if ending == "exits with words":
                sys.exit("words")
            if ending == "raises":
                sys.stderr = None
                raise ValueError("of the fork")
            return "of the fork"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    pool = rig()
    wanted = {"returns": 0, "exits": 3, "exits with words": 1, "raises": 1}
    assert pool.call(forks) == (Status.OK, wanted[ending])
    assert [pool.call(abs, -n) for n in range(20)] == [(Status.OK, n) for n in range(20)]
    assert not pool.deaths()


def test_a_task_is_interrupted_as_a_script_is(rig: Callable[..., PoolRig]) -> None:
    def interrupted() -> str:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return "interrupted"
        return "not interrupted"

    def not_caught() -> None:
        signal.raise_signal(signal.SIGINT)

    pool = rig()
    assert pool.call(interrupted) == (Status.OK, "interrupted")
    status, failure = pool.call(not_caught)
    assert (status, failure.type) == (Status.RAISED, "KeyboardInterrupt")
    assert pool.call(abs, -1) == (Status.OK, 1)
    assert not pool.deaths()


def test_an_idle_child_takes_no_notice_of_sigint(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pid = pool.call(os.getpid)[1]
    os.kill(pid, signal.SIGINT)
    assert pool.call(os.getpid) == (Status.OK, pid)


def test_programs_do_not_inherit_what_a_child_does_with_signals(
    rig: Callable[..., PoolRig],
) -> None:
    def look() -> str:
        code = (
            "import signal; print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)])"
        )
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    assert rig().call(look) == (Status.OK, look())
