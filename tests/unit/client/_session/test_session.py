"""The session core: what it sends, takes and tells while nothing goes wrong with its link."""

from __future__ import annotations

import pytest

from harness.worlds.session import BROKER, FUNCTION, Driver, groups_of
from manyhands._session.effects import Failed, Opened
from manyhands._session.events import (
    AddJob,
    Append,
    Ask,
    CancelTasks,
    Close,
    CloseJob,
    Flush,
    LinkUp,
    State,
)
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Ack,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Need,
    Ping,
    Pong,
    Refused,
    Span,
    Status,
    Submit,
    Who,
)


def test_says_hello_when_the_link_is_up_and_nothing_before_the_welcome() -> None:
    driver = Driver()
    driver.job(count=3)
    assert driver.flush() == []
    driver.do(LinkUp())
    assert [type(message) for message in driver.sent] == [ClientHello]
    assert driver.session.state is State.GREETING
    driver.sent.clear()
    driver.welcome()
    assert driver.effects == [Opened(BROKER, resumed=False)]
    sent = driver.flush()
    assert sent == [FUNCTION, Submit([groups_of(sent)[0]])]
    assert groups_of(sent)[0].bodies == [b"0", b"1", b"2"]


def test_tells_options_and_function_once_and_numbers_tasks_on() -> None:
    driver = Driver().open()
    driver.job(count=2)
    first = driver.flush()
    driver.do(Append("j", [b"x"]))
    second = driver.flush()
    assert [group.options for group in groups_of(first + second)] == [{"name": "j"}, None]
    assert [group.first for group in groups_of(first + second)] == [0, 2]
    assert sum(message == FUNCTION for message in first + second) == 1


def test_sends_no_more_tasks_than_the_window() -> None:
    driver = Driver(window_tasks=5).open()
    driver.job(count=12)
    assert [len(group.bodies) for group in groups_of(driver.flush())] == [5]
    driver.end(1, "j", [0, 1])
    assert [len(group.bodies) for group in groups_of(driver.flush())] == [2]


def test_sends_no_more_bytes_than_the_window_but_always_one_task() -> None:
    driver = Driver(window_bytes=10).open()
    driver.do(AddJob("j", FUNCTION, {}))
    driver.do(Append("j", [b"x" * 8, b"y" * 2, b"z" * 30, b"w"]))
    assert [group.bodies for group in groups_of(driver.flush())] == [[b"x" * 8, b"y" * 2]]
    driver.end(1, "j", [0])
    assert groups_of(driver.flush()) == []
    driver.end(2, "j", [1])
    assert [group.bodies for group in groups_of(driver.flush())] == [[b"z" * 30]]


def test_jobs_take_turns() -> None:
    driver = Driver(window_tasks=100_000, window_bytes=1 << 30).open()
    driver.job("long", 10_000)
    driver.job("short", 1)
    driver.do(Flush())
    driver.do(Flush())
    assert "short" in [group.job for group in groups_of(driver.sent)]


def test_acknowledges_what_it_has_seen_and_delivers_it_once() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.flush()
    driver.end(1, "j", [0])
    driver.end(1, "j", [0])
    driver.end(2, "j", [0, 1])
    assert driver.delivered == [("j", 0, Status.OK), ("j", 1, Status.OK)]
    assert driver.flush() == [Ack(2)]
    driver.end(2, "j", [0])
    assert driver.flush() == [Ack(2)], "a repeated message asks for its acknowledgement"


def test_says_hello_after_a_gap_in_the_results() -> None:
    driver = Driver().open()
    driver.job(count=5)
    driver.flush()
    driver.end(1, "j", [0])
    driver.flush()
    driver.end(3, "j", [2])
    assert driver.delivered == [("j", 0, Status.OK)]
    hello = driver.flush()[-1]
    assert isinstance(hello, ClientHello)
    assert hello.last_seq == 1


def test_who_makes_it_say_hello_once() -> None:
    driver = Driver().open()
    driver.receive(Who(BROKER))
    driver.receive(Who(BROKER))
    assert [type(message) for message in driver.sent] == [ClientHello]


def test_a_task_cancelled_before_it_was_sent_goes_without_arguments() -> None:
    driver = Driver(window_tasks=1).open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [1]))
    assert driver.sent == [], "the broker does not know it yet"
    driver.end(1, "j", [0])
    sent = driver.flush()
    assert [group.bodies for group in groups_of(sent)] == [[b""]]
    assert Cancel([Span("j", 0, [1])]) in sent
    driver.end(2, "j", [1], Status.RAISED)
    assert ("j", 1, Status.CANCELLED) in driver.delivered, "it had no arguments to run with"


def test_a_sent_task_is_cancelled_by_the_broker() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [2, 7]))
    assert driver.sent == [Cancel([Span("j", 0, [2])])]
    assert driver.delivered == []
    driver.end(1, "j", [2], Status.OK)
    assert driver.delivered == [("j", 2, Status.OK)], "it had ended before"


def test_cancelling_a_job_ends_what_was_not_sent() -> None:
    driver = Driver(window_tasks=2).open()
    driver.job(count=5)
    driver.flush()
    driver.do(CancelTasks("j", None))
    assert driver.delivered == [("j", index, Status.CANCELLED) for index in (2, 3, 4)]
    assert Cancel([Span("j", 0, [])]) in driver.flush()
    driver.end(1, "j", [0, 1], Status.CANCELLED)
    assert len(driver.delivered) == 5
    assert driver.session._jobs.unended_tasks == 0


def test_answers_need_and_ping_and_counts_what_makes_no_sense() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.receive(Need(FUNCTION.digest))
    driver.receive(Need(b"?" * 16))
    driver.receive(Ping(7))
    assert driver.sent == [FUNCTION, Pong(7)]
    driver.receive(Submit([]))
    driver.receive(ClientWelcome(PROTOCOL_VERSION, BROKER, False, 1, 1, 0.0))
    assert driver.session.dropped == 2
    assert driver.session.state is State.OPEN


def test_a_refused_session_is_over() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.receive(Refused("protocol", "no"))
    assert driver.effects == [Failed("protocol", "no")]
    driver.do(LinkUp())
    driver.do(Ask(1, "jobs", {}))
    assert driver.session.handle(LinkUp(), 0.0) == []
    assert driver.session.deadline is None


def test_closing_says_bye() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.do(Close("done"))
    driver.do(Close("done"))
    assert driver.sent == [Bye("done")]


def test_an_ended_job_leaves_nothing_in_the_books() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.flush()
    driver.do(CloseJob("j"))
    closing = groups_of(driver.flush())
    assert [(group.first, group.bodies, group.closed) for group in closing] == [(2, [], True)]
    driver.end(1, "j", [1, 0])
    assert driver.session._jobs.function(FUNCTION.digest) is None
    with pytest.raises(KeyError):
        driver.do(Append("j", [b"late"]))
