"""The session numbers tasks and says when a job is over, each once."""

from __future__ import annotations

from harness.worlds.session import FUNCTION, Driver
from manyhands._session.effects import Deliver, Journaled, Numbered, TurnedDown, Vanished
from manyhands._session.events import AddJob, Append, CancelTasks, CloseJob
from manyhands_shared.protocol.messages import Accepted, Detach, JobCount, Rejected, Status

DURABLE = {"name": "j", "durable": True}


def accepted(driver: Driver, tasks: int) -> None:
    driver.receive(Accepted([JobCount("j", tasks)], *driver.window))


def test_tasks_are_numbered_on() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.do(Append("j", [b"x"]))
    assert driver.numbered == [Numbered("j", 0, 3), Numbered("j", 3, 1)]


def test_tasks_are_numbered_on_when_the_broker_has_turned_their_job_down() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"x", b"y"]))
    driver.flush()
    driver.receive(Rejected("j", 0, "no room"))
    driver.do(Append("j", [b"z"]))
    assert driver.numbered == [Numbered("j", 0, 2), Numbered("j", 2, 1)]
    assert driver.delivered == [("j", n, Status.RAISED) for n in range(3)]


def test_a_job_is_over_with_its_last_task_once_it_is_closed() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.flush()
    driver.end(1, "j", [0])
    driver.do(CloseJob("j"))
    assert not driver.over
    driver.end(2, "j", [1])
    assert driver.over == ["j"]
    driver.flush()
    driver.do(CloseJob("j"))
    assert driver.over == ["j"], "once"


def test_an_idle_job_is_over_when_it_is_closed_though_the_broker_is_away() -> None:
    driver = Driver()
    driver.job(count=0)
    driver.do(CloseJob("j"))
    assert driver.over == ["j"]


def test_a_cancelled_job_is_over_when_what_was_sent_has_ended() -> None:
    driver = Driver(window_tasks=1).open()
    driver.job(count=2)
    driver.flush()
    driver.do(CancelTasks("j", None))
    assert driver.delivered == [("j", 1, Status.CANCELLED)]
    assert not driver.over
    driver.end(1, "j", [0], Status.CANCELLED)
    assert driver.over == ["j"]


def test_a_durable_job_is_over_when_every_result_was_seen_and_is_asked_for_no_more() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"x", b"y"]))
    driver.do(CloseJob("j"))
    driver.flush()
    accepted(driver, 2)
    driver.end(1, "j", [1])
    assert not driver.over
    driver.end(2, "j", [0])
    assert driver.over == ["j"]
    assert Detach("j") in driver.flush()


def test_nothing_comes_of_a_job_that_was_over_before_the_broker_turned_it_down() -> None:
    """Its results came, its acceptance was lost, and another broker has no room for it."""
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"x"]))
    driver.do(CloseJob("j"))
    driver.flush()
    driver.end(1, "j", [0])
    assert driver.over == ["j"]
    driver.relink(resumed=False)
    driver.flush()
    driver.receive(Rejected("j", 0, "no room"))
    assert driver.delivered == [("j", 0, Status.OK)]
    assert driver.over == ["j"]


def test_a_durable_job_without_a_subscription_is_over_when_the_journal_has_it() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"x"]))
    driver.flush()
    accepted(driver, 1)
    assert not driver.over
    driver.do(CloseJob("j"))
    driver.flush()
    accepted(driver, 1)
    assert Journaled("j") in driver.effects
    assert driver.over == ["j"]


def test_one_that_was_turned_down_is_over_when_it_is_closed() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"x", b"y"]))
    driver.flush()
    driver.receive(Rejected("j", 1, "no room"))
    assert [type(effect) for effect in driver.effects] == [Deliver, TurnedDown]
    assert not driver.over
    driver.do(CloseJob("j"))
    assert driver.over == ["j"]


def test_one_that_is_cancelled_as_a_whole_is_over_at_once() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"x"]))
    driver.flush()
    driver.do(CancelTasks("j", None))
    assert driver.over == ["j"]


def test_a_job_that_is_lost_with_its_journal_is_over() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"x", b"y"]))
    driver.do(CloseJob("j"))
    driver.flush()
    accepted(driver, 2)
    driver.receive(Detach("j"))
    assert driver.effects[-1:] == [Vanished("j")]
    assert driver.over == ["j"]
