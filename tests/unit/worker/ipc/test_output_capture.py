"""What the node makes of what comes through a child's two output pipes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from typing import Any

import pytest

from manyhands_worker.ipc.control_block import CLAIM, new_block, words
from manyhands_worker.ipc.output_capture import ECHO, ECHO_TASKS, NOTHING, Capture
from manyhands_worker.ipc.output_redirect import OutputRedirect, new_secret

OUT, ERROR = 1, 2


class Rig:
    """Both ends, and the marks that a child would write."""

    def __init__(self) -> None:
        (near, self.out), (error, self.error) = Pipe(duplex=False), Pipe(duplex=False)
        secret = new_secret()
        self.control = words(new_block())
        self.redirect = OutputRedirect((self.out, self.error), secret, self.control)
        self.capture = Capture((near, error), secret)

    def write(self, stream: int, text: bytes) -> None:
        """Write as C code does."""
        os.write((self.out if stream == OUT else self.error).fileno(), text)

    def print(self, stream: int, text: bytes, serial: int) -> None:
        """Write as Python does, where it has written to the other stream before."""
        self.control[CLAIM] = serial
        self.write(stream, self.redirect.switch(stream) + text)

    def read(self) -> list[tuple[int, int, str]]:
        return [tuple(part) for part in self.capture.read(0.0)]  # type: ignore[misc]

    def finish(self, ended: int, *, idle: bool = True) -> list[tuple[int, int, str]]:
        return [tuple(part) for part in self.capture.finish(ended, idle=idle)]  # type: ignore[misc]

    def close(self) -> None:
        self.capture.close()
        ends: tuple[Connection[Any, Any], ...] = (self.out, self.error)
        for end in ends:
            end.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_lines_go_out_when_they_are_whole(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    rig.write(OUT, b"one\ntw")
    assert rig.read() == [(1, OUT, "one\n")]
    rig.write(OUT, b"o\nthree")
    assert rig.read() == [(1, OUT, "two\n")]
    assert rig.finish(1, idle=False) == [], "it may be the line of a task that runs"
    assert rig.finish(1) == [(1, OUT, "three")]


def test_a_line_without_an_end_is_not_kept_for_ever(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    for _ in range(40):
        rig.write(OUT, b"x" * 2_000)
        if parts := rig.read():
            break
    assert 64 << 10 <= sum(len(text) for *_, text in parts) < 70 << 10


def test_lines_of_another_job_are_not_those_of_the_one_before(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    rig.capture.expect(5, ECHO)
    rig.write(OUT, b"first\nhalf")
    rig.redirect.begin(5)
    rig.write(OUT, b"second\n")
    assert rig.read() == [(1, OUT, "first\n"), (1, OUT, "half"), (5, OUT, "second\n")]


def test_what_no_client_wants_is_passed_on(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.capture.expect(1, NOTHING)
    rig.capture.begin(1)
    rig.write(OUT, b"by a thread of an earlier task\n")
    assert rig.read() == []
    assert capfd.readouterr().err == "by a thread of an earlier task\n"


def test_streams_are_put_in_order(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    for number in range(6):
        rig.print(1 + number % 2, b"%d\n" % number, 1)
    assert [text for *_, text in rig.read()] == [f"{number}\n" for number in range(6)]


def test_each_tasks_lines_are_its_own_where_that_is_asked_for(rig: Rig) -> None:
    rig.capture.expect(1, ECHO_TASKS)
    for serial in (1, 2):
        rig.redirect.begin(serial)
        rig.write(OUT, b"line\nhalf")
    assert rig.read() == [(1, OUT, "line\n"), (1, OUT, "half\n"), (2, OUT, "line\n")]
    assert rig.finish(1, idle=False) == []
    assert rig.finish(2, idle=False) == [(2, OUT, "half\n")]


def test_a_child_that_prints_on_does_not_wake_the_node_each_time(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    assert len(rig.capture.fds) == 2
    rig.write(OUT, b"a\n")
    rig.capture.read(5.0)
    assert rig.capture.fds == []
    due = rig.capture.due
    assert due is not None
    assert 5.0 < due < 5.1
    rig.write(OUT, b"b\n")
    assert rig.capture.read(due)
    assert rig.capture.fds == []
    again = rig.capture.due
    assert again is not None
    assert rig.capture.read(again) == []
    assert len(rig.capture.fds) == 2
    assert rig.capture.due == math.inf


def test_many_lines_are_cut_behind_lines(rig: Rig) -> None:
    rig.capture.expect(1, ECHO)
    rig.capture.begin(1)
    for _ in range(60):
        rig.write(OUT, b"y" * 999 + b"\n")
    texts = [text for *_, text in rig.read()]
    assert sum(map(len, texts)) == 60_000
    assert len(texts) > 1
    assert all(text.endswith("\n") for text in texts)
