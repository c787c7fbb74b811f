"""Results do not wait for a long task behind them."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.pool.child_rig import Child, value
from harness.processes import eventually
from manyhands_shared.programs import task
from manyhands_shared.programs.program import Program
from manyhands_shared.protocol.status import Status
from manyhands_worker.ipc import pipe
from manyhands_worker.ipc.control_block import CLAIM, DONE
from manyhands_worker.ipc.output_capture import BOTH, LOG


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


def threads(child: Child) -> int:
    return len(list(Path(f"/proc/{child.process.pid}/task").iterdir()))


def test_results_do_not_wait_for_a_long_task_of_their_batch(child: Child, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def read(name: str) -> str:
        return Path(name).read_text() if name.startswith("/") else name

    first = child.send(read, "one", "two", str(gate), "four")
    ended = child.ended(2)
    assert [value(body) for _, body in ended] == ["one", "two"]
    assert (child.words[CLAIM], child.words[DONE]) == (first + 2, first + 1), "the third still runs"
    gate.write_text("three")
    assert [value(body) for _, body in child.ended(2)] == ["three", "four"]
    child.send(read, "five", "six")
    assert [value(body) for _, body in child.ended(2)] == ["five", "six"]


def test_what_they_have_printed_is_there_before_them(child: Child, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def speak(name: str) -> str:
        print("said", end="")  # no line, so Python keeps it back
        return Path(name).read_text() if name.startswith("/") else name

    child.output.expect(1, LOG)
    first = child.send(speak, "one", str(gate), flags=pipe.CAPTURE | pipe.MARK)
    child.ended(1)
    texts = [*child.output.read(0.0), *child.output.finish(first, idle=False)]
    assert [(serial, stream, text[:4]) for serial, stream, text in texts] == [(first, BOTH, "said")]
    gate.write_text("")
    child.ended(1)


def test_a_program_that_goes_on_does_not_keep_the_results_of_those_before(
    child: Child, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")

    def run(line: str) -> object:
        program = Program((line,), shell=True, directory=str(tmp_path))
        return task.run(program.encode(), 1, "1", None)["stdout"]

    first = child.send(run, "echo one", "echo two", "cat gate", "echo four", flags=pipe.GROUPED)
    assert [value(body) for _, body in child.ended(2)] == ["one\n", "two\n"]
    eventually(lambda: child.words[CLAIM] == first + 2)
    assert child.words[DONE] == first + 1, "the third still runs"
    (tmp_path / "gate").write_text("three\n")
    assert [value(body) for _, body in child.ended(2)] == ["three\n", "four\n"]


def test_a_fork_finds_no_other_thread_and_keeps_no_results(child: Child, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def fork(name: str) -> object:
        if not name:
            return threading.active_count()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pid = os.fork()
            if pid == 0:
                os._exit(len(threading.enumerate()))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        Path(name).read_text()
        return code, [str(one.message) for one in caught]

    child.send(fork, "", "", str(gate))
    assert [value(body) for _, body in child.ended(2)] == [1, 1]
    eventually(lambda: threads(child) == 1)
    gate.write_text("")
    assert [(status, value(body)) for status, body in child.ended(1)] == [(Status.OK, (1, []))]


def test_an_interrupt_does_not_tear_what_goes_out_before_a_fork(child: Child) -> None:
    class Interrupting(io.StringIO):
        def flush(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def fork(forks: bool) -> list[str]:
        raised: list[str] = []
        if forks:
            stdout, sys.stdout = sys.stdout, Interrupting()
            sys.unraisablehook = lambda one: raised.append(repr(one.exc_value))
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            sys.stdout = stdout
            os.waitpid(pid, 0)
        return raised

    child.send(fork, False, True)
    assert [(status, value(body)) for status, body in child.ended(2)] == [(Status.OK, [])] * 2


def test_a_child_without_batches_has_one_thread(child: Child) -> None:
    child.send(abs, -1)
    child.ended(1)
    assert threads(child) == 1
    child.send(abs, -1, -2)
    child.ended(2)
    eventually(lambda: threads(child) == 1)
