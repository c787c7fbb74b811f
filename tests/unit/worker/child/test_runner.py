"""The loop of one child, with this test in the node's place: what it claims, reports and gives back."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from harness.pool.child_rig import FRAME_BYTES, Child, value
from harness.processes import eventually
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.status import Status
from manyhands_worker.child_status import REVOKED
from manyhands_worker.ipc import control_block, pipe
from manyhands_worker.ipc.control_block import CLAIM, DONE, LIMIT, READY
from manyhands_worker.ipc.output_capture import BOTH, ECHO_TASKS, LOG


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    if not made.socket._closed:  # type: ignore[attr-defined]
        made.close()


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


def test_streams_are_led_apart_and_together_again(child: Child) -> None:
    def speak(word: str) -> None:
        print(word)
        print(word, file=sys.stderr)

    found = []
    for word, apart in (("one", 0), ("two", pipe.APART), ("three", 0)):
        child.output.expect(child.next, ECHO_TASKS)
        serial = child.send(speak, word, flags=pipe.CAPTURE | pipe.EACH | apart)
        child.ended(1)
        texts = [*child.output.read(0.0), *child.output.finish(serial, idle=True)]
        found.append({stream for _, stream, _ in texts})
    assert found == [{1}, {1, 2}, {1}]
