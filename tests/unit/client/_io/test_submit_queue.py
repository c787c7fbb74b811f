"""The queue before the I/O thread: callers that never pause, and bounds."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from harness.processes import eventually
from manyhands._io import submit_queue
from manyhands._io.submit_queue import BACKLOG, SubmitQueue
from manyhands_shared.errors import ClusterClosed, SubmitQueueFull

JOB: Any = object()


def put(queue: SubmitQueue, count: int, *, block: bool = True) -> None:
    for number in range(count):
        queue.put(JOB, number, b"", block=block)


def putting(queue: SubmitQueue, count: int, *, block: bool = True) -> threading.Thread:
    thread = threading.Thread(target=put, args=(queue, count), kwargs={"block": block}, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("block", [True, False])
def test_a_caller_that_never_pauses_lets_the_io_thread_take_what_waits(
    monkeypatch: pytest.MonkeyPatch, block: bool
) -> None:
    monkeypatch.setattr(submit_queue, "_GIVE_WAY_SECONDS", 100.0)
    queue = SubmitQueue(10_000_000, 1 << 30)
    taken: list[int] = []
    caller = putting(queue, 5 * BACKLOG, block=block)
    while len(taken) < 5 * BACKLOG:
        eventually(lambda: queue.waiting >= BACKLOG or not caller.is_alive())
        part = [number for _, number, _ in queue.take()]
        assert len(part) == BACKLOG
        taken += part
        queue.publish(len(taken), 0)
    caller.join(100)
    assert taken == list(range(5 * BACKLOG))


def test_a_caller_gives_way_once_for_each_backlog_where_the_io_thread_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[int] = []
    queue = SubmitQueue(10_000_000, 1 << 30)

    def wait(_: float) -> None:
        waits.append(queue.waiting)

    monkeypatch.setattr(queue._room, "wait", wait)
    put(queue, 3 * BACKLOG + 1)
    assert waits == [BACKLOG, 2 * BACKLOG, 3 * BACKLOG]
    # From the next time that it is taken on, the first wait is again behind one backlog.
    queue.take()
    queue.publish(3 * BACKLOG + 1, 0)
    put(queue, BACKLOG + 1)
    assert waits[3:] == [BACKLOG]


def test_a_callback_that_submits_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_queue, "_GIVE_WAY_SECONDS", 100.0)
    queue = SubmitQueue(BACKLOG, 1 << 30)
    queue.owner = threading.get_ident()
    put(queue, 3 * BACKLOG)
    assert queue.waiting == 3 * BACKLOG


def test_what_the_io_thread_holds_counts_against_the_bound() -> None:
    queue = SubmitQueue(10, 1 << 30)
    put(queue, 6)
    queue.take()
    queue.publish(6, 100)
    put(queue, 4, block=False)
    with pytest.raises(SubmitQueueFull, match="already"):
        put(queue, 1, block=False)
    # Two have ended.
    queue.take()
    queue.publish(8, 100)
    put(queue, 2, block=False)
    with pytest.raises(SubmitQueueFull):
        put(queue, 1, block=False)


def test_bytes_above_the_bound_let_none_in() -> None:
    queue = SubmitQueue(100, 1000)
    queue.publish(1, 1001)
    with pytest.raises(SubmitQueueFull):
        put(queue, 1, block=False)
    queue.publish(1, 1000)
    put(queue, 1, block=False)


def test_an_ended_session_refuses_and_those_that_wait_for_room_hear_of_it() -> None:
    queue = SubmitQueue(2, 1 << 30)
    heard: list[ClusterClosed] = []
    put(queue, 2)

    def wait_for_room() -> None:
        try:
            put(queue, 1)
        except ClusterClosed as error:
            heard.append(error)

    thread = threading.Thread(target=wait_for_room, daemon=True)
    thread.start()
    eventually(lambda: queue._waiting)
    closed = ClusterClosed("closed")
    queue.shut(closed)
    thread.join(100)
    assert heard == [closed]
    queue.take()
    queue.publish(0, 0)
    for payload in (b"", b"x" * submit_queue.LARGE_BYTES):
        with pytest.raises(ClusterClosed):
            queue.put(JOB, 0, payload)
