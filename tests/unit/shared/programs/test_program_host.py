"""What a pool child keeps while it runs programs is gone when it runs another function."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import manyhands
from manyhands_shared.programs import task
from manyhands_shared.programs.program import Program
from manyhands_shared.programs.program_host import ProgramHost


def _state() -> tuple[int, list[Any], bool, int]:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    return os.getpid(), handlers, ProgramHost.current is None, _files_without_names()


def _files_without_names() -> int:
    if sys.platform != "linux":
        return 0
    links = [f"/proc/self/fd/{fd}" for fd in range(256)]
    return sum("(deleted)" in os.readlink(link) for link in links if os.path.islink(link))  # noqa: PTH114, PTH115


def test_another_function_finds_the_process_as_it_was() -> None:
    text = Program(("echo", "{}")).encode()
    with manyhands.Executor(1) as executor:
        before = executor.submit(_state).result(100)
        for number in (1, 2):
            told = executor.submit(task.run, text, number, str(number), None, "x").result(100)
            assert (told["exit"], told["stdout"]) == (0, "x\n")
        assert executor.submit(_state).result(100) == before
        # As under `nohup`, what this process ignores stays ignored.
        inherited = signal.getsignal(signal.SIGHUP)
        assert before[1:] == ([signal.SIG_DFL, inherited], True, before[3])
