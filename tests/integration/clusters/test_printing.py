"""What tasks print and log reaches the client: whole lines, in order, before the task's result."""

from __future__ import annotations

import ctypes
import io
import linecache
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from harness.processes import eventually
from manyhands import Client, ConfigError, Executor, LocalCluster, Pool
from manyhands._io import printer, silence_notice

BOUND = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, slots=1) as made:
        yield made


class Streams:
    """What was written to `sys.stdout` and `sys.stderr` so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._out = self._error = ""

    def _read(self) -> None:
        out, error = self._capsys.readouterr()
        self._out += out
        self._error += error

    @property
    def out(self) -> str:
        self._read()
        return self._out

    @property
    def error(self) -> str:
        self._read()
        return self._error


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, lines are waited for, and nothing is said of what is slow."""
    monkeypatch.setattr(printer, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(silence_notice, "SILENCE_SECONDS", 600.0)


@pytest.fixture
def streams(capsys: pytest.CaptureFixture[str]) -> Streams:
    return Streams(capsys)


def speak(number: int) -> int:
    print("print", number)
    print("error", number, file=sys.stderr)
    logging.getLogger("task").warning("record %d", number)
    os.write(1, b"descriptor %d\n" % number)
    subprocess.run(["echo", f"program {number}"], check=True)
    subprocess.run(f"echo program error {number} >&2", shell=True, check=True)
    ctypes.CDLL(None).puts(b"library %d" % number)
    return number


def test_whatever_a_task_writes_is_there_before_its_result(
    cluster: LocalCluster, streams: Streams
) -> None:
    with Executor(address=cluster.address) as executor:
        assert executor.submit(speak, 3).result(BOUND) == 3
        assert streams.out == "print 3\ndescriptor 3\nprogram 3\nlibrary 3\n"
        assert streams.error == "error 3\nrecord 3\nprogram error 3\n"


def test_lone_calls_show_theirs_before_each_result(cluster: LocalCluster, streams: Streams) -> None:
    with Executor(address=cluster.address) as executor:
        for number in range(200):
            executor.submit(print, number).result(BOUND)
            assert streams.out.endswith(f"{number}\n")
    assert streams.out == "".join(f"{number}\n" for number in range(200))


def test_lines_of_many_tasks_are_whole_and_each_tasks_are_in_order(
    cluster: LocalCluster, streams: Streams
) -> None:
    def write(task: int) -> None:
        for number in range(50):
            os.write(1, b"task %d " % task)
            os.write(1, b"line %d\n" % number)

    with Pool(address=cluster.address) as pool:
        pool.map(write, range(20), chunksize=1)
    found: dict[str, list[int]] = {}
    for line in streams.out.splitlines():
        matched = re.fullmatch(r"task (\d+) line (\d+)", line)
        assert matched, line
        found.setdefault(matched[1], []).append(int(matched[2]))
    assert found == {str(task): list(range(50)) for task in range(20)}


def test_both_streams_of_a_task_are_in_one_order(cluster: LocalCluster) -> None:
    def alternate() -> None:
        for number in range(100):
            print(number, file=(sys.stdout, sys.stderr)[number % 2])

    both = io.StringIO()
    with redirect_stdout(both), redirect_stderr(both), Executor(address=cluster.address) as ex:
        ex.submit(alternate).result(BOUND)
    assert both.getvalue().split() == [str(number) for number in range(100)]


def test_lines_come_while_the_task_runs(
    cluster: LocalCluster, streams: Streams, tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def task(path: str) -> None:
        print("begun")
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the task's own
            file.read()

    with Executor(address=cluster.address) as executor:
        running = executor.submit(task, str(gate))
        eventually(lambda: streams.out == "begun\n", BOUND)
        gate.write_text("go on")
        running.result(BOUND)


def test_what_has_no_end_of_line_comes_with_the_result(
    cluster: LocalCluster, streams: Streams
) -> None:
    with Executor(address=cluster.address) as executor:
        executor.submit(print, "dot", end="").result(BOUND)
        assert streams.out == "dot"


def test_a_task_that_dies_leaves_its_lines(cluster: LocalCluster, streams: Streams) -> None:
    def die() -> None:
        print("last words")
        os._exit(3)

    with Executor(address=cluster.address, crash_limit=1) as executor:
        assert executor.submit(die).exception(BOUND) is not None
    assert streams.out == "last words\n"


def test_with_a_prefix_each_line_names_node_and_task(
    cluster: LocalCluster, streams: Streams
) -> None:
    def write(number: int) -> None:
        print("one", number)
        os.write(1, b"two %d" % number)  # whose end a line gets

    with Pool(address=cluster.address, prefix=True) as pool:
        pool.map(write, range(10), chunksize=1)
    names = "|".join(node.name for node in cluster.nodes)
    lines = streams.out.splitlines()
    parts = [re.fullmatch(rf"\[(?:{names}) task (\d+)\] (one|two) (\d+)", line) for line in lines]
    assert all(part and part[1] == part[3] for part in parts), lines
    assert len(parts) == 20


def test_tracebacks_show_the_source_that_this_program_has(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "def fails(number):\n    return 1 / number  # in a cell of a notebook\n"
    entry = (len(text), None, text.splitlines(keepends=True), "<cell 3>")
    monkeypatch.setitem(linecache.cache, "<cell 3>", entry)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell 3>", "exec"), names)
    with Executor(address=cluster.address) as executor:
        error = executor.submit(names["fails"], 0).exception(BOUND)
    assert isinstance(error, ZeroDivisionError)
    frame = 'File "<cell 3>", line 2, in fails\n    return 1 / number  # in a cell of a notebook\n'
    assert frame in str(error.__cause__)


def _in_pool(address: str | None) -> None:
    with Pool(1, address=address, echo=False) as pool:
        pool.map(print, ["unseen"])


def _in_executor(address: str | None) -> None:
    with Executor(1, address=address, echo=False) as executor:
        executor.submit(print, "unseen").result(BOUND)


def _in_job(address: str | None) -> None:
    if address is not None:
        with Client(address) as client:
            client.submit_job(print, [("unseen",)], echo=False).results()


def _by_variable(address: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHANDS_ECHO", "0")
        with Executor(1, address=address) as executor:
            executor.submit(print, "unseen").result(BOUND)


@pytest.mark.parametrize("run", [_in_pool, _in_executor, _in_job, _by_variable])
def test_it_can_be_switched_off(
    cluster: LocalCluster, streams: Streams, run: Callable[[str | None], None]
) -> None:
    run(cluster.address)
    with Executor(address=cluster.address) as executor:
        executor.submit(print, "seen").result(BOUND)
    assert streams.out == "seen\n"


def test_on_a_cluster_of_its_own_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with redirect_stdout(out), Pool(1) as pool:
        pool.map(print, ["seen"])
    assert out.getvalue() == "seen\n"
    _in_pool(None)
    assert capfd.readouterr() == ("", "")


def test_what_is_kept_in_a_log_is_not_echoed(cluster: LocalCluster) -> None:
    with (
        Client(cluster.address) as client,
        pytest.raises(ConfigError, match="manyhands logs"),
    ):
        client.submit_job(print, [("a",)], durable=True, echo=True)


def test_a_command_keeps_its_standard_output_for_results(cluster: LocalCluster) -> None:
    command = [sys.executable, "-m", "manyhands.cli", "run", "--broker", cluster.address]
    done = subprocess.run(
        [*command, "builtins:print", "a line"],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=True,
    )
    assert (done.stdout, "a line" in done.stderr) == ("", True)
