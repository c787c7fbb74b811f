"""The session core: durable jobs, what the broker turns down, and when results are acknowledged."""

from __future__ import annotations

import pytest

from harness.worlds.session import FUNCTION, Driver, groups_of
from manyhands._session.delayed_acks import ACK_BYTES, ACK_MESSAGES, ACK_SECONDS
from manyhands._session.effects import Deliver, Journaled, TurnedDown, Vanished
from manyhands._session.events import (
    AddJob,
    Append,
    CancelTasks,
    CloseJob,
    LinkLost,
    LinkUp,
    PauseResults,
    Subscribe,
    Tick,
    Unsubscribe,
)
from manyhands_shared.errors import SubmitRejected
from manyhands_shared.protocol.exceptions import to_exception
from manyhands_shared.protocol.messages import (
    Accepted,
    Ack,
    Attach,
    Cancel,
    Detach,
    Function,
    JobCount,
    Message,
    Rejected,
    ResultGroup,
    Results,
    Span,
    Status,
    Submit,
    Throttle,
)

DURABLE = {"durable": True}


def submits(messages: list[Message]) -> list[tuple[int, int, bool]]:
    return [(group.first, len(group.bodies), group.closed) for group in groups_of(messages)]


def test_what_the_journal_has_leaves_the_books() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"a", b"b"]))
    assert submits(driver.flush()) == [(0, 2, False)]
    assert driver.session._jobs.unended_tasks == 2
    driver.receive(Accepted([JobCount("j", 2)], 1_000, 1 << 30))
    assert driver.session._jobs.unended_tasks == 0
    driver.do(CloseJob("j"))
    assert submits(driver.flush()) == [(2, 0, True)]
    assert Journaled("j") not in driver.effects, "the closing is not written down yet"
    driver.receive(Accepted([JobCount("j", 2)], 1_000, 1 << 30))
    assert driver.effects == [Journaled("j")]


def test_an_acceptance_of_what_came_before_does_not_confirm_the_closing() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"a"]))
    driver.flush()
    driver.do(CloseJob("j"))
    driver.flush()
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    assert driver.effects == []
    driver.relink(resumed=False)
    assert submits(driver.flush()) == [(1, 0, True)], "the broker may have lost the closing"
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    assert driver.effects[-1] == Journaled("j")


def test_a_forgetful_broker_is_told_of_a_durable_job_only_what_it_did_not_accept() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE, subscribe=False))
    driver.do(Append("j", [b"a", b"b"]))
    driver.flush()
    driver.receive(Accepted([JobCount("j", 2)], 1_000, 1 << 30))
    driver.do(Append("j", [b"c"]))
    driver.flush()
    driver.relink(resumed=False)
    groups = groups_of(driver.flush())
    assert [(group.first, group.bodies, group.options) for group in groups] == [
        (2, [b"c"], DURABLE)
    ]


def test_results_of_a_watched_job_come_once_however_often_they_are_repeated() -> None:
    driver = Driver().open()
    driver.do(Subscribe("other"))
    assert driver.flush() == [Attach("other")]
    driver.end(1, "other", [5, 3])
    driver.end(2, "other", [3, 4, 5])
    assert driver.delivered == [("other", 5, Status.OK), ("other", 3, 0), ("other", 4, 0)]
    driver.relink(resumed=False)
    assert Attach("other") in driver.sent, "the broker has forgotten who watches"
    driver.end(1, "other", [3, 4, 5, 6])
    assert driver.delivered[3:] == [("other", 6, Status.OK)]
    driver.sent.clear()
    driver.do(Unsubscribe("other"))
    assert driver.sent == [Detach("other")]
    driver.end(2, "other", [7])
    assert len(driver.delivered) == 4


def test_what_a_journal_had_is_lost_with_it_and_the_rest_goes_on() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a", b"b"]))
    driver.flush()
    driver.receive(Accepted([JobCount("j", 2)], 1_000, 1 << 30))
    driver.do(Append("j", [b"c"]))
    driver.end(1, "j", [0])
    driver.relink(resumed=False)
    driver.receive(Detach("j"))
    driver.receive(Detach("j"))
    assert driver.delivered[1:] == [("j", 1, Status.LOST)]
    assert submits(driver.flush()) == [(2, 1, False)], "what the journal never had"
    driver.end(1, "j", [2])
    assert driver.delivered[2:] == [("j", 2, Status.OK)]
    assert driver.session.unended == 1, "until that is written down"
    driver.receive(Accepted([JobCount("j", 3)], 1_000, 1 << 30))
    assert driver.session.unended == 0


def test_a_watched_job_that_is_gone_is_watched_no_more() -> None:
    driver = Driver().open()
    driver.do(Subscribe("other"))
    driver.receive(Detach("none"))
    assert not driver.effects
    driver.receive(Detach("other"))
    assert driver.effects == [Vanished("other")]
    driver.relink(resumed=False)
    assert Attach("other") not in driver.sent


def test_results_are_held_back_also_on_the_next_link_until_they_are_wanted_again() -> None:
    driver = Driver().open()
    driver.do(Subscribe("other"))
    driver.do(PauseResults("other", pause=True))
    driver.do(PauseResults("none", pause=True))
    assert driver.flush() == [Attach("other"), Throttle("other", hold=True)]
    driver.relink(resumed=False)
    assert driver.sent == [Attach("other"), Throttle("other", hold=True)]
    driver.sent.clear()
    driver.do(PauseResults("other", pause=False))
    assert driver.sent == [Throttle("other", hold=False)]
    driver.do(PauseResults("other", pause=True))
    driver.do(Unsubscribe("other"))
    driver.do(Subscribe("other"))
    driver.relink(resumed=False)
    assert driver.sent == [Attach("other")], "a new reader begins unhindered"


def test_a_job_of_ones_own_is_attached_to_behind_its_first_tasks() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a", b"b"]))
    kinds = [type(message) for message in driver.flush()]
    assert kinds == [Function, Submit, Attach]
    driver.receive(Accepted([JobCount("j", 2)], 1_000, 1 << 30))
    assert driver.session.unended == 2, "accepted, and owed"
    driver.end(1, "j", [1, 0])
    assert driver.session.unended == 0
    assert driver.delivered == [("j", 1, Status.OK), ("j", 0, Status.OK)]


def test_an_open_job_that_the_journal_has_is_watched_on_at_a_broker_that_was_restarted() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a"]))
    driver.flush()
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    driver.relink(resumed=False)
    assert Attach("j") in driver.flush()


def test_a_durable_job_that_the_journal_may_have_is_cancelled_at_a_broker_that_was_restarted() -> (
    None
):
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a"]))
    driver.flush()
    driver.relink(resumed=False)
    driver.do(CancelTasks("j", None))
    said = driver.flush()
    assert Cancel([Span("j", 0, [])]) in said
    assert submits(said) == [(0, 0, True)]
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    assert not driver.session._jobs.knows("j")


def test_cancelling_what_only_the_journal_has() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a", b"b", b"c"]))
    driver.flush()
    driver.receive(Accepted([JobCount("j", 3)], 1_000, 1 << 30))
    driver.end(1, "j", [0])
    driver.sent.clear()
    driver.do(CancelTasks("j", [0, 2]))
    assert driver.sent == [Cancel([Span("j", 0, [2])])]
    driver.do(LinkLost())
    driver.do(CancelTasks("j", [1]))
    driver.do(LinkUp())
    driver.sent.clear()
    driver.welcome()
    assert Cancel([Span("j", 0, [1])]) in driver.sent


def test_what_may_run_once_is_lost_with_a_broker_that_forgot_it() -> None:
    driver = Driver(window_tasks=2).open()
    driver.do(AddJob("j", FUNCTION, {"at_most_once": True}))
    driver.do(Append("j", [b"a", b"b", b"c"]))
    driver.flush()
    driver.relink(resumed=False)
    assert driver.delivered == [("j", 0, Status.LOST), ("j", 1, Status.LOST)]
    assert submits(driver.flush()) == [(2, 1, False)], "what was never sent may run"


def test_what_may_run_once_is_sent_again_to_a_broker_that_remembers() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, {"at_most_once": True}))
    driver.do(Append("j", [b"a"]))
    driver.flush()
    driver.relink(resumed=True)
    assert driver.delivered == []
    assert submits(driver.flush()) == [(0, 1, False)]


@pytest.mark.parametrize("options", [{}, DURABLE])
def test_rejected_tasks_fail_and_the_others_go_on(options: dict[str, bool]) -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, options))
    driver.do(Append("j", [b"a", b"b", b"c"]))
    driver.flush()
    driver.receive(Rejected("j", 1, "the disk is full"))
    assert driver.delivered == [("j", 1, Status.RAISED), ("j", 2, Status.RAISED)]
    assert driver.effects[-1] == TurnedDown("j", "the disk is full")
    [failed] = [effect for effect in driver.effects if isinstance(effect, Deliver)]
    error = to_exception(Status.RAISED, failed.bodies[0])
    assert isinstance(error, SubmitRejected)
    assert str(error) == "the disk is full"
    driver.do(Append("j", [b"d"]))
    assert driver.delivered[2:] == [("j", 3, Status.RAISED)], "too late for this job"
    driver.do(CloseJob("j"))
    assert submits(driver.flush()) == [(1, 0, True)], "what the broker took is a job, and closed"
    driver.end(1, "j", [0])
    assert driver.delivered[-1] == ("j", 0, Status.OK)


def test_a_job_that_was_turned_down_in_part_is_closed_until_that_is_written_down() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a", b"b"]))
    driver.do(CloseJob("j"))
    driver.flush()
    driver.receive(Rejected("j", 1, "the disk is full"))
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    assert submits(driver.flush()) == [(1, 0, True)]
    assert driver.session._jobs.knows("j"), "whether that came is not known"
    driver.relink(resumed=False)
    assert submits(driver.flush()) == [(1, 0, True)]
    driver.receive(Accepted([JobCount("j", 1)], 1_000, 1 << 30))
    assert not driver.session._jobs.knows("j")


def test_a_job_that_was_turned_down_as_a_whole_needs_no_closing() -> None:
    driver = Driver().open()
    driver.do(AddJob("j", FUNCTION, DURABLE))
    driver.do(Append("j", [b"a"]))
    driver.flush()
    driver.receive(Rejected("j", 0, "the disk is full"))
    assert driver.flush() == []
    driver.do(CloseJob("j"))
    assert driver.flush() == [Detach("j")]
    assert not driver.session._jobs.knows("j")


def test_acknowledges_after_a_moment_or_when_it_is_worth_it() -> None:
    driver = Driver().open()
    driver.job(count=200)
    driver.flush()
    driver.end(1, "j", [0])
    assert driver.flush() == []
    assert driver.session.deadline == pytest.approx(ACK_SECONDS)
    driver.now = ACK_SECONDS
    driver.do(Tick())
    assert driver.flush() == [Ack(1)]
    assert driver.session.deadline is None
    for seq in range(2, 2 + ACK_MESSAGES):
        assert driver.flush() == []
        driver.end(seq, "j", [seq])
    assert driver.flush() == [Ack(1 + ACK_MESSAGES)]
    big = ResultGroup("j", 1, [150], b"\0", [bytes(ACK_BYTES)], 0.0)
    driver.receive(Results(2 + ACK_MESSAGES, [big]))
    assert driver.flush() == [Ack(2 + ACK_MESSAGES)]
