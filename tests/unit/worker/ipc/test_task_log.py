"""What is kept for the journal of what a task prints."""

from __future__ import annotations

from manyhands_worker.ipc.task_log import HEAD_BYTES, LAST_BYTES, LAST_SECONDS, TaskLog


def test_a_task_that_prints_on_is_heard_of_while_it_runs() -> None:
    log = TaskLog()
    assert list(log.add(1, b"h" * HEAD_BYTES)) == []
    assert list(log.sent_on(0.0)) == [(1, b"h" * HEAD_BYTES)]
    assert list(log.add(1, b"a" * 10 + b"b" * LAST_BYTES)) == []
    assert list(log.sent_on(1.0)) == []
    assert log.due == 1.0 + LAST_SECONDS
    [(serial, said)] = log.sent_on(log.due)
    assert serial == 1
    assert said == b"\n[more was printed here: 10 bytes that are not kept]\n" + b"b" * LAST_BYTES
    assert not log
    list(log.add(1, b"the end"))
    assert list(log.finish()) == [(1, b"the end")]
