"""The session core: results that nodes hold, fetched and confirmed."""

from __future__ import annotations

import pytest

from harness.worlds.session import Driver
from manyhands._session.effects import Deliver, Fetch
from manyhands._session.events import Fetched
from manyhands_shared.protocol.messages import Relay, ResultGroup, Results, Span, Status, Taken

ABOUT = [Span("j", 1, [0])]


@pytest.fixture
def driver() -> Driver:
    made = Driver().open()
    made.job(count=1)
    made.flush()
    return made


def say(driver: Driver, seq: int, status: Status, body: bytes, attempt: int = 1) -> None:
    group = ResultGroup("j", attempt, [0], bytes([status]), [body], 0.0)
    driver.receive(Results(seq, [group]))


def fetched(driver: Driver, ticket: bytes, payload: tuple[bytes, ...] | None) -> None:
    driver.do(Fetched("j", 1, 0, ticket, payload))


def bodies(driver: Driver) -> list[object]:
    return [body for one in driver.effects if isinstance(one, Deliver) for body in one.bodies]


def test_what_was_fetched_is_delivered_when_the_broker_has_the_last_word(driver: Driver) -> None:
    say(driver, 1, Status.HELD, b"ticket")
    assert driver.effects == [Fetch("j", 1, 0, b"ticket")]
    fetched(driver, b"ticket", (b"value",))
    assert driver.flush() == [Taken(ABOUT)]
    assert not driver.delivered
    say(driver, 2, Status.OK, b"")
    assert bodies(driver) == [(b"value",)]


def test_what_cannot_be_fetched_is_asked_for(driver: Driver) -> None:
    say(driver, 1, Status.HELD, b"ticket")
    fetched(driver, b"ticket", None)
    assert driver.flush() == [Relay(ABOUT)]
    say(driver, 2, Status.OK, b"through the broker")
    assert bodies(driver) == [b"through the broker"]


def test_an_offer_that_is_told_again_is_fetched_once(driver: Driver) -> None:
    say(driver, 1, Status.HELD, b"ticket")
    say(driver, 2, Status.HELD, b"ticket")
    assert driver.effects == [Fetch("j", 1, 0, b"ticket")]
    fetched(driver, b"ticket", (b"value",))
    say(driver, 3, Status.HELD, b"ticket")
    assert driver.flush() == [Taken(ABOUT), Taken(ABOUT)]


def test_another_attempt_is_another_result(driver: Driver) -> None:
    say(driver, 1, Status.HELD, b"ticket")
    fetched(driver, b"ticket", (b"of a node that died",))
    say(driver, 2, Status.HELD, b"other", attempt=2)
    assert driver.effects[-1] == Fetch("j", 2, 0, b"other")
    driver.do(Fetched("j", 2, 0, b"other", (b"value",)))
    say(driver, 3, Status.OK, b"", attempt=2)
    assert bodies(driver) == [(b"value",)]


def test_a_fetch_for_an_offer_that_has_given_way_is_nothing(driver: Driver) -> None:
    say(driver, 1, Status.HELD, b"ticket")
    say(driver, 2, Status.HELD, b"other")
    fetched(driver, b"ticket", None)
    assert not driver.flush()
    fetched(driver, b"other", (b"value",))
    assert driver.flush() == [Taken(ABOUT)]


def test_two_runs_of_one_number_cannot_cost_the_result_of_both(driver: Driver) -> None:
    # A restarted broker numbers attempts of attached tasks anew.
    say(driver, 1, Status.HELD, b"ticket")
    fetched(driver, b"ticket", (b"value",))
    driver.relink(resumed=False)
    driver.flush()
    say(driver, 1, Status.HELD, b"ticket")
    say(driver, 2, Status.HELD, b"other")
    assert driver.flush() == [Taken(ABOUT), Taken(ABOUT)]
    say(driver, 3, Status.OK, b"")
    assert bodies(driver) == [(b"value",)]
