"""The session core: results that other tasks have for inputs."""

from __future__ import annotations

from typing import Any

from harness.worlds.session import Driver, groups_of
from manyhands._session.effects import Deliver, Fetch, Stays
from manyhands._session.events import Append, AskResult, CancelTasks, CloseJob, DropResult, Fetched
from manyhands._session.inputs.input_refs import DependentPayload
from manyhands_shared.protocol import messages as m


def payload(*inputs: tuple[str, int], **known: Any) -> DependentPayload:
    made = DependentPayload(b"args")
    made.segments, made.inputs, made.nbytes = [], (b"", ()), 0
    made.results, made.known = inputs, {("j", int(name[1:])): end for name, end in known.items()}
    return made


def opened(**options: Any) -> Driver:
    """A session with task 0 of job j, and task 1 that needs it."""
    driver = Driver().open(**options)
    driver.job(count=1)
    driver.do(Append("j", [payload(("j", 0))]))
    driver.flush()
    return driver


def say(driver: Driver, seq: int, index: int, status: m.Status, body: bytes) -> None:
    group = m.ResultGroup("j", 1, [index], bytes([status]), [body], 0.0)
    driver.receive(m.Results(seq, [group]))


def delivered(driver: Driver) -> list[tuple[int, Any]]:
    return [
        (index, body)
        for one in driver.effects
        if isinstance(one, Deliver)
        for index, body in zip(one.indices, one.bodies, strict=True)
    ]


def test_the_broker_is_told_which_task_needs_which() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.do(Append("j", [payload(("j", 0))]))
    said = driver.flush()
    [at] = [at for at, one in enumerate(said) if isinstance(one, m.Dependencies)]
    assert said[at] == m.Dependencies([m.Dependency("j", 1, "j", 0)])
    assert isinstance(said[at + 1], m.Submit)


def test_a_cancelled_input_keeps_its_arguments() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.do(Append("j", [payload(("j", 0))]))
    driver.do(CancelTasks("j", [0, 1]))
    said = driver.flush()
    [group] = groups_of(said)
    # The first may run before the broker hears of this: without arguments its user would see it fail.
    assert group.bodies[0] != b""
    assert group.bodies[1] == b""
    assert said[-1] == m.Cancel([m.Span("j", 0, [0, 1])])


def test_what_the_broker_lacks_is_answered_for_at_once_or_when_it_ends() -> None:
    driver = opened()
    driver.receive(m.WantResults([m.Span("j", 0, [0])]))
    assert driver.flush() == []
    say(driver, 1, 0, m.Status.OK, b"value")
    answer = [m.KnownResults([m.ResultGroup("j", 0, [0], bytes(1), [b"value"], 0.0)])]
    assert driver.flush() == answer
    driver.receive(m.WantResults([m.Span("j", 0, [0])]))
    assert driver.flush() == answer


def test_a_held_input_is_not_fetched_before_it_is_asked_for() -> None:
    driver = opened()
    say(driver, 1, 0, m.Status.HELD, b"ticket")
    assert driver.effects == [Stays("j", 0)]
    driver.do(AskResult("j", 0))
    assert driver.effects == [Stays("j", 0), Fetch("j", 1, 0, b"ticket")]
    driver.do(Fetched("j", 1, 0, b"ticket", (b"value",)))
    # The user has it, and the node keeps it for the task.
    assert delivered(driver) == [(0, (b"value",))]
    assert driver.flush() == []
    say(driver, 2, 1, m.Status.OK, b"end")
    assert driver.flush() == [m.Taken([m.Span("j", 1, [0])])]
    say(driver, 3, 0, m.Status.OK, b"")
    assert delivered(driver) == [(0, (b"value",)), (1, b"end")]


def test_a_held_input_that_was_dropped_is_let_go_of_unfetched() -> None:
    driver = opened()
    driver.do(DropResult("j", 0))
    say(driver, 1, 0, m.Status.HELD, b"ticket")
    say(driver, 2, 1, m.Status.OK, b"end")
    assert driver.flush() == [m.Taken([m.Span("j", 1, [0])])]
    assert not [one for one in driver.effects if isinstance(one, Fetch)]


def test_a_held_input_comes_when_its_job_is_closed_and_no_task_needs_it() -> None:
    driver = opened()
    say(driver, 1, 0, m.Status.HELD, b"ticket")
    driver.do(CloseJob("j"))
    assert not [one for one in driver.effects if isinstance(one, Fetch)]
    say(driver, 2, 1, m.Status.OK, b"end")
    assert driver.effects[-1] == Fetch("j", 1, 0, b"ticket")


def test_a_result_that_had_ended_is_known_from_the_start() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.do(Append("j", [payload(("j", 7), t7=(m.Status.OK, b"seven"))]))
    driver.flush()
    driver.receive(m.WantResults([m.Span("j", 0, [7])]))
    [answer] = driver.flush()
    assert answer == m.KnownResults([m.ResultGroup("j", 0, [7], bytes(1), [b"seven"], 0.0)])


def test_a_kept_result_stays_though_no_task_needs_it_until_it_is_asked_for() -> None:
    driver = Driver().open()
    driver.job(count=1, keep=True)
    driver.flush()
    say(driver, 1, 0, m.Status.HELD, b"ticket")
    assert driver.flush() == []
    assert not [one for one in driver.effects if isinstance(one, Fetch)]
    driver.do(AskResult("j", 0))
    assert driver.effects[-1] == Fetch("j", 1, 0, b"ticket")


def test_a_kept_result_that_was_dropped_is_let_go_of_unfetched() -> None:
    driver = Driver().open()
    driver.job(count=1, keep=True)
    driver.flush()
    say(driver, 1, 0, m.Status.HELD, b"ticket")
    driver.flush()
    driver.do(DropResult("j", 0))
    assert driver.flush() == [m.Taken([m.Span("j", 1, [0])])]
