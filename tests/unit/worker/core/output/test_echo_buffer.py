"""Printed lines on their way to the broker: put together, bounded, counted."""

from __future__ import annotations

import pytest

from manyhands_shared.protocol.messages import Ping, Printed, PrintedGroup
from manyhands_worker.core.output import echo_buffer
from manyhands_worker.core.output.echo_buffer import EchoBuffer

JOB, OTHER = ("job", 1), ("other", 2)


def groups(buffer: EchoBuffer) -> list[PrintedGroup]:
    messages = buffer.take()
    return [group for sent in messages if isinstance(sent, Printed) for group in sent.groups]


def test_lines_of_a_job_travel_together() -> None:
    buffer = EchoBuffer()
    assert not buffer
    for index in range(3):
        buffer.add(JOB, index, 1, f"{index}\n", apart=False)
    buffer.add(JOB, 3, 2, "error\n", apart=False)
    buffer.add(OTHER, 0, 2, "other\n", apart=False)
    assert buffer
    assert groups(buffer) == [
        PrintedGroup("job", 1, 0, 1, 0, "0\n1\n2\n"),
        PrintedGroup("job", 1, 3, 2, 0, "error\n"),
        PrintedGroup("other", 2, 0, 2, 0, "other\n"),
    ]
    assert not buffer


def test_those_of_tasks_that_are_told_apart_do_not() -> None:
    buffer = EchoBuffer()
    for index in (0, 0, 1):
        buffer.add(JOB, index, 1, "line\n", apart=True)
    assert [(group.index, group.text) for group in groups(buffer)] == [
        (0, "line\nline\n"),
        (1, "line\n"),
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> EchoBuffer:
    monkeypatch.setattr(echo_buffer, "WAITING_CHARS", 2_000)
    monkeypatch.setattr(echo_buffer, "UNREAD_CHARS", 1_000)
    monkeypatch.setattr(echo_buffer, "PING_CHARS", 500)
    return EchoBuffer()


def test_what_does_not_fit_is_dropped_and_counted(small: EchoBuffer) -> None:
    for number in range(50):
        small.add(JOB, number, 1, f"{number:>98}\n", apart=False)
        assert small._size <= 2_000
    first = groups(small)
    shown = "".join(group.text for group in first).split()
    assert shown == [str(number) for number in range(len(shown))]
    small.relinked()
    [told] = groups(small)
    assert (told.job, told.lost, told.text) == ("job", 50 - len(shown), "")
    small.relinked()
    small.add(JOB, 50, 1, "more\n", apart=False)
    assert [(group.lost, group.text) for group in groups(small)] == [(0, "more\n")]


def test_what_is_lost_is_told_before_what_comes_behind_it(small: EchoBuffer) -> None:
    for number in range(30):
        small.add(JOB, number, 1, f"{number:>98}\n", apart=False)
    small.take()
    small.add(OTHER, 0, 1, "behind\n", apart=False)
    small.relinked()
    lost, behind = groups(small)
    assert lost.lost
    assert (behind.text, behind.lost) == ("behind\n", 0)


def test_the_broker_is_not_sent_more_than_it_reads(small: EchoBuffer) -> None:
    pings: list[int] = []
    sent = 0
    for _ in range(10):
        small.add(JOB, 0, 1, "x" * 400 + "\n", apart=False)
        messages = small.take()
        pings += [message.counter for message in messages if isinstance(message, Ping)]
        sent += sum(isinstance(message, Printed) for message in messages)
    assert sent < 5
    small.heard_of(pings[-1])
    assert groups(small), "it has read"


def test_a_new_link_begins_with_nothing_unread(small: EchoBuffer) -> None:
    for _ in range(10):
        small.add(JOB, 0, 1, "x" * 400 + "\n", apart=False)
        small.take()
    assert not groups(small)
    small.relinked()
    assert groups(small)
