"""The loop of one child, with this test in the node's place: what it claims, reports and gives back."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.payloads import code_of
from harness.processes import eventually
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.programs import task
from manyhands_shared.programs.program import Program
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.status import Status
from manyhands_worker.child.process import PoolChild
from manyhands_worker.child.runner import ChildLimits
from manyhands_worker.child_status import REVOKED
from manyhands_worker.host.process_start import starting
from manyhands_worker.ipc import control_block, pipe
from manyhands_worker.ipc.control_block import CLAIM, DONE, LIMIT, READY
from manyhands_worker.ipc.output_capture import BOTH, LOG, Capture
from manyhands_worker.ipc.output_redirect import new_secret
from manyhands_worker.ipc.segments import new_marks
from manyhands_worker.ipc.slab import SlabLedger, new_slab

FRAME_BYTES = 4 << 20
BOUND = 100.0


class Child:
    """A pool child and the node's end of everything that it shares with it."""

    def __init__(self, *, slab_bytes: int = 0) -> None:
        block, slab = control_block.new_block(), new_slab(slab_bytes) if slab_bytes else None
        self.words = control_block.words(block)
        self.ledger = SlabLedger(slab, self.words)
        self.socket, far = socket.socketpair()
        self.socket.settimeout(BOUND)
        out, out_end = Pipe(duplex=False)
        error, error_end = Pipe(duplex=False)
        output = (out_end, error_end), new_secret()
        stacks, stacks_end = Pipe(duplex=False)
        limits = ChildLimits(FRAME_BYTES, function_bytes=1 << 20, threads=1, segment_bytes=64 << 20)
        self.process = PoolChild(0, far, block, slab, new_marks(), output, stacks_end, limits)
        with starting():
            self.process.start()
        far.close()
        out_end.close()
        error_end.close()
        stacks.close()
        stacks_end.close()
        self.output = Capture((out, error), output[1])
        self.reader, self.writer = pipe.Reader(self.socket), pipe.Writer(self.socket)
        self.next = 1

    def send(
        self,
        function: Callable[..., Any] | bytes,
        *arguments: Any,
        flags: int = 0,
        introduce: bool = True,
    ) -> int:
        """Hand it a batch of a task for each of `arguments`; returns the first serial number."""
        first, self.next = self.next, self.next + len(arguments)
        if isinstance(function, bytes):
            digest, code = b"no function here", function
        else:
            digest, code = code_of(function)
        buffers: list[Any] = []
        entries = [[], pipe.pack([code], buffers)] if introduce else None
        bodies = pipe.pack([pickled.dumps(((value,), {})) for value in arguments], buffers)
        self.writer.send([first, digest, entries, flags, None, None, bodies], buffers)
        return first

    def receive(self) -> tuple[list[Any], list[Any]]:
        """Wait for its next message."""
        while not self.reader.ready:
            assert self.reader.fill(), "it has ended"
        return self.reader.ready.popleft()

    def ended(self, count: int) -> list[tuple[int, Any]]:
        """Wait for as many reports of tasks; each status, and the body as it stands in the header."""
        found: list[tuple[int, Any]] = []
        while len(found) < count:
            (_, statuses, bodies, *_), _ = self.receive()
            found += zip(statuses, bodies, strict=True)
        return found

    def close(self) -> int:
        """Close the node's end; returns the exit code."""
        self.socket.close()
        self.process.join(BOUND)
        self.output.close()
        code = self.process.exitcode
        self.process.close()
        assert code is not None
        return code


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    if not made.socket._closed:  # type: ignore[attr-defined]
        made.close()


def value(body: Payload) -> Any:
    return pickled.loads(body)


def failure(body: bytes) -> Failure:
    return Failure.decode(body)


def test_it_says_when_it_is_ready_and_leaves_when_the_node_does(child: Child) -> None:
    eventually(lambda: child.words[READY] == 1)
    assert child.close() == 0


def test_a_function_is_sent_once_and_named_from_then_on(child: Child) -> None:
    child.send(abs, -1)
    assert [(status, value(body)) for status, body in child.ended(1)] == [(Status.OK, 1)]
    child.send(abs, -2, -3, introduce=False)
    assert [value(body) for _, body in child.ended(2)] == [2, 3]
    assert child.words[CLAIM] == child.words[DONE] == 3, "it is idle"


def test_results_that_may_not_be_lost_go_out_one_by_one(child: Child) -> None:
    first = child.send(abs, -1, -2, -3, flags=pipe.AT_ONCE)
    messages = [child.receive()[0] for _ in range(3)]
    assert [message[0] for message in messages] == [first, first + 1, first + 2]
    assert [len(message[1]) for message in messages] == [1, 1, 1]


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


def test_tasks_at_the_limit_and_above_come_back_unrun(child: Child, tmp_path: Any) -> None:
    ran = tmp_path / "ran"

    def note(name: str) -> str:
        with ran.open("a") as file:
            file.write(name)
        return name

    child.words[LIMIT] = child.next + 2
    child.send(note, "a", "b", "c", "d")
    ended = child.ended(4)
    assert [status for status, _ in ended] == [Status.OK, Status.OK, REVOKED, REVOKED]
    assert [body for _, body in ended[2:]] == [b"", b""]
    assert ran.read_text() == "ab"
    child.words[LIMIT] = control_block.NO_LIMIT
    child.send(note, "e", introduce=False)
    assert [status for status, _ in child.ended(1)] == [Status.OK]


def test_arguments_on_their_way_are_claimed_before_they_are_all_there(child: Child) -> None:
    """If the child dies of receiving them, their task is to blame."""
    eventually(lambda: child.words[READY] == 1)
    near, far = socket.socketpair()
    with near, far:
        recorder = Child.__new__(Child)
        recorder.writer, recorder.next = pipe.Writer(near), 1
        far.setblocking(False)
        large = np.zeros(10_000)
        recorder.send(len, large)
        data = bytearray()
        while chunk := _chunk(far):
            data += chunk
    child.socket.sendall(data[:-100])
    eventually(lambda: child.words[CLAIM] == 1, what="the first serial is claimed")
    assert child.words[DONE] == 0, "and is not done"
    child.socket.sendall(data[-100:])
    assert [value(body) for _, body in child.ended(1)] == [10_000]


def _chunk(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_large_results_lie_in_the_slab_or_come_behind_the_header() -> None:
    array = np.arange(50_000.0)

    def make(_: int) -> Any:
        return array

    for slab_bytes in (8 << 20, 0):
        child = Child(slab_bytes=slab_bytes)
        try:
            serial = child.send(make, 0)
            (_, statuses, [body], *_), buffers = child.receive()
            assert statuses == bytes([Status.OK])
            if slab_bytes:
                position, *lengths = body
                _, parts = child.ledger.take(serial, serial, position, lengths)
                assert buffers == []
            else:
                assert body == len(buffers)
                parts = tuple(buffers)
            assert np.array_equal(value(tuple(parts)), array)
            del parts
        finally:
            assert child.close() == 0


def test_a_result_that_may_go_its_own_way_comes_as_a_descriptor(child: Child) -> None:
    def make(size: int) -> Any:
        return np.ones(size, "u1")

    child.send(make, 1 << 20, flags=pipe.DIRECT)
    (_, _, [body], *_), _ = child.receive()
    assert body[0] == -1, "the first of its segments"
    assert sum(body[1:]) > 1 << 20
    [fd] = child.reader.fds
    assert os.fstat(fd).st_size >= 1 << 20
    os.close(fd)
    child.reader.fds.clear()
    child.send(make, 10, flags=pipe.DIRECT, introduce=False)
    [(_, small)] = child.ended(1)
    assert len(value(small)) == 10, "a small one is not worth it"


def test_a_result_too_large_to_travel_fails_its_task_alone(child: Child) -> None:
    child.send(bytes, FRAME_BYTES + 1, 3)
    (status, body), (after, small) = child.ended(2)
    assert status == Status.UNSENDABLE
    assert "bytes" in failure(body).message
    assert (after, value(small)) == (Status.OK, bytes(3))


def _leave(code: Any) -> None:
    sys.exit(code)


def _interrupt(_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (_leave, 3, "the task called sys.exit(3)"),
        (_leave, None, "the task called sys.exit()"),
        (_leave, (1, 2), "the task called sys.exit(…)"),
        (_interrupt, 0, "the task raised KeyboardInterrupt"),
        (int, "x", "invalid literal"),
    ],
)
def test_whatever_a_task_raises_is_its_failure_and_the_next_one_runs(
    child: Child, function: Callable[..., Any], argument: Any, words: str
) -> None:
    child.send(function, argument)
    [(status, body)] = child.ended(1)
    assert status == Status.RAISED
    assert words in failure(body).message
    child.send(abs, -5)
    assert [value(body) for _, body in child.ended(1)] == [5]


def test_a_failure_shows_the_users_frames_and_none_of_its_own(child: Child) -> None:
    def inner(_: Any) -> None:
        raise ValueError("deep")

    child.send(inner, 0)
    [(_, body)] = child.ended(1)
    told = failure(body).traceback
    assert "inner" in told
    assert "child/runner.py" not in told


def test_a_function_that_does_not_load_fails_each_of_its_tasks(child: Child) -> None:
    child.send(b"no pickle", 1, 2)
    ended = child.ended(2)
    assert [status for status, _ in ended] == [Status.RAISED] * 2
    for _, body in ended:
        assert failure(body).message.startswith("the function does not load on ")
    child.send(abs, -5)
    assert [value(body) for _, body in child.ended(1)] == [5]


def test_what_a_task_prints_is_there_before_its_result(child: Child) -> None:
    def speak(word: str) -> str:
        print(word)
        return word

    child.output.expect(1, LOG)
    serial = child.send(speak, "one", flags=pipe.CAPTURE | pipe.EACH)
    child.ended(1)
    texts = [*child.output.read(0.0), *child.output.finish(serial, idle=True)]
    assert texts == [(serial, BOTH, "one\n")]
