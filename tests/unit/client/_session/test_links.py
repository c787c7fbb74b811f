"""The session core: links that are lost, and brokers that remember the session or do not."""

from __future__ import annotations

import pytest

from harness.worlds.session import FUNCTION, Driver, groups_of
from manyhands._session.effects import Answered, Relink
from manyhands._session.events import (
    Append,
    Ask,
    CancelOther,
    CancelTasks,
    CloseJob,
    LinkLost,
    LinkUp,
    State,
    Tick,
)
from manyhands_shared.protocol.messages import (
    Accepted,
    Cancel,
    Function,
    JobCount,
    JobStanding,
    Ping,
    Pong,
    Query,
    Reply,
    Span,
    Standing,
    Status,
    Submit,
    TaskStanding,
)


def test_a_resumed_session_sends_what_was_not_confirmed() -> None:
    driver = Driver().open()
    driver.job(count=6)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 4)], 1_000, 1 << 30))
    driver.end(1, "j", [1])
    driver.do(LinkLost())
    assert driver.effects[-1] == Relink()
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    again = groups_of(driver.flush())
    assert [(group.first, group.bodies) for group in again] == [(4, [b"4", b"5"])]


def test_a_forgotten_session_sends_everything_that_has_not_ended() -> None:
    driver = Driver().open()
    driver.job(count=6)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 6)], 1_000, 1 << 30))
    driver.end(1, "j", [0, 3])
    driver.relink(resumed=False)
    sent = driver.flush()
    again = [(group.first, len(group.bodies), group.options) for group in groups_of(sent)]
    assert again == [(1, 2, {"name": "j"}), (4, 2, None)]
    assert FUNCTION in sent
    driver.end(1, "j", [1, 2, 4, 5])
    assert len(driver.delivered) == 6


def test_a_cancellation_is_repeated_on_a_resumed_link_and_never_widened() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 3)], 1_000, 1 << 30))
    driver.do(CancelTasks("j", [1]))
    assert driver.flush()[-1] == Cancel([Span("j", 0, [1])])
    driver.relink(resumed=True)
    cancels = [message for message in driver.flush() if isinstance(message, Cancel)]
    assert cancels == [Cancel([Span("j", 0, [1])])], "again, on the new link"
    driver.end(1, "j", [1], Status.CANCELLED)
    driver.relink(resumed=True)
    assert not any(isinstance(message, Cancel) for message in driver.flush()), "none is left"


def test_a_broker_without_memory_is_not_told_of_cancelled_tasks() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [1]))
    driver.relink(resumed=False)
    assert driver.delivered == [("j", 1, Status.CANCELLED)]
    assert [group.first for group in groups_of(driver.flush())] == [0, 2]


def test_pings_and_gives_up_a_link_that_does_not_answer() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.welcome(ping=5.0)
    driver.sent.clear()
    driver.now = 5.0
    assert driver.session.deadline == 5.0
    driver.do(Tick())
    assert driver.sent == [Ping(1)]
    driver.now = 6.0
    driver.receive(Pong(1))
    driver.now = 10.0
    driver.do(Tick())
    driver.now = 15.0
    driver.do(Tick())
    assert driver.session.state is State.OPEN
    driver.now = 20.0
    driver.do(Tick())
    assert driver.effects[-1] == Relink()


def test_a_hello_without_an_answer_asks_for_another_link() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.now = 9.9
    driver.do(Tick())
    assert driver.effects == []
    driver.now = 10.0
    driver.do(Tick())
    assert driver.effects == [Relink()]


def test_questions_survive_a_lost_link() -> None:
    driver = Driver()
    driver.do(Ask(1, "jobs", {}))
    driver.do(CancelOther("elsewhere"))
    assert driver.sent == []
    driver.open()
    driver.relink(resumed=True)
    assert Query(1, "jobs", {}) in driver.sent
    driver.receive(Reply(1, "", [1]))
    driver.receive(Reply(1, "", [1]))
    assert [effect for effect in driver.effects if isinstance(effect, Answered)] == [
        Answered(1, "", [1])
    ]


@pytest.mark.parametrize("heard", [False, True])
def test_a_closing_that_may_be_lost_with_the_link_is_said_again(heard: bool) -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.end(1, "j", [0])
    driver.do(CloseJob("j"))
    driver.flush()
    driver.relink(resumed=True, ping=1.0)
    [again] = groups_of(driver.sent)
    assert (again.job, again.first, again.bodies, again.closed) == ("j", 1, [], True)
    driver.now += 2.0
    driver.do(Tick())
    driver.receive(Pong(1 if heard else 0))
    driver.relink(resumed=True)
    assert len(groups_of(driver.sent)) == (0 if heard else 1)
    driver.relink(resumed=False)
    assert not groups_of(driver.sent), "a broker that forgot the session forgot the job"


def test_a_job_whose_acceptance_was_lost_is_closed_though_its_results_come_first() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.relink(resumed=True)
    driver.end(1, "j", [0])  # said again before the task was sent again
    driver.flush()
    driver.do(CloseJob("j"))
    [closing] = groups_of(driver.flush())
    assert (closing.bodies, closing.closed) == ([], True)
    assert not driver.session._jobs.knows("j")


def test_a_job_whose_acceptance_was_lost_is_cancelled_and_closed() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.relink(resumed=True)
    driver.do(CancelTasks("j", None))
    assert driver.delivered == [("j", 0, Status.CANCELLED)]
    said = driver.flush()
    assert said[0] == Cancel([Span("j", 0, [])])
    [closing] = groups_of(said)
    assert (closing.first, closing.bodies, closing.closed) == (0, [], True)
    assert closing.options is not None, "the broker may never have heard of the job"
    assert not driver.session._jobs.knows("j")


def test_a_function_that_may_be_lost_with_the_link_goes_before_the_next_tasks() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    driver.relink(resumed=True)
    assert driver.flush() == []
    driver.do(Append("j", [b"more"]))
    assert [type(message) for message in driver.flush()] == [Function, Submit]


def test_a_broker_that_forgot_a_job_is_not_told_that_it_is_over() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.do(LinkLost())
    driver.do(CancelTasks("j", None))
    driver.relink(resumed=False)
    assert driver.flush() == []
    assert not driver.session._jobs.knows("j")


def test_another_broker_is_told_what_the_last_one_said_of_a_job() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.now = 10.0
    assert not [message for message in driver.flush() if isinstance(message, Standing)]
    driver.receive(Standing([JobStanding("j", 0.0, True, 0)], []))
    for index, tries in ((0, 1), (1, 1), (1, 2), (9, 1)):
        driver.receive(Standing([], [TaskStanding("j", index, tries, tries, "died" * index)]))
    driver.receive(Standing([JobStanding("unknown", 0.0, True, 0)], []))
    driver.end(1, "j", [0])
    driver.now = 17.0
    driver.relink(resumed=True)
    assert not [message for message in driver.flush() if isinstance(message, Standing)]
    driver.relink(resumed=False)
    sent = driver.flush()
    [standing] = [message for message in sent if isinstance(message, Standing)]
    assert standing.jobs == [JobStanding("j", 7.0, True, 0)]
    assert standing.tasks == [TaskStanding("j", 1, 2, 2, "died")]
    submit = next(message for message in sent if isinstance(message, Submit))
    assert sent.index(standing) < sent.index(submit)


def test_what_another_client_cancelled_is_not_submitted_again() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.do(Append("j", [b"late"]))
    driver.receive(Standing([JobStanding("j", 0.0, False, 3)], []))
    driver.relink(resumed=False)
    [group] = groups_of(driver.flush())
    assert (group.first, group.bodies) == (3, [b"late"])
    assert {(index, status) for _, index, status in driver.delivered} == {
        (0, Status.CANCELLED),
        (1, Status.CANCELLED),
        (2, Status.CANCELLED),
    }
