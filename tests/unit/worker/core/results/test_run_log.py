"""When tasks ran, as the node tells it: long runs all, short ones in a sample, twice a second."""

from __future__ import annotations

import math

from manyhands_shared.protocol import messages as m
from manyhands_worker.core.events import Died, Finished, RunningTask
from manyhands_worker.core.results import run_log
from manyhands_worker.core.results.run_log import Run, RunLog


def run(first: int, seconds: float = 0.001, begun: float = 9.0) -> Run:
    return Run(("job", 1), first, 1, 0, begun, seconds, 0.0, 0, 0)


def assigned(job: str, attempt: int, indices: list[int]) -> m.Assign:
    return m.Assign([m.AssignGroup(job, attempt, bytes(16), None, indices, [b""] * len(indices))])


def firsts(ran: m.Ran) -> list[int]:
    return [
        group.figures[at]
        for group in ran.groups
        for at in range(0, len(group.figures), m.RUN_FIGURES)
    ]


def test_a_first_run_goes_out_at_once_and_the_next_half_a_second_later() -> None:
    log = RunLog()
    assert log.due == math.inf
    log.add(run(0), 10.0)
    assert log.due == 10.0
    assert log.take(10.0) == m.Ran(
        [m.RunGroup("job", 1, [0, 1, 0, 1_000_000, 1_000, *[0] * 6])], []
    )
    log.add(run(1), 10.1)
    assert log.due == 10.5
    sent = log.take(10.5)
    assert firsts(sent) == [1]


def test_of_many_short_runs_an_even_sample_goes_out_and_of_long_ones_all() -> None:
    log = RunLog()
    for number in range(1_000):
        log.add(run(number, 1.0 if number % 100 == 50 else 0.001), 10.0)
    sent = log.take(10.0)
    told = firsts(sent)
    assert told[:10] == [number * 100 + 50 for number in range(10)]
    assert len(told) <= 10 + run_log.MOST_RUNS
    assert max(told) > 900


def test_runs_that_failed_are_told_beside_the_sample_up_to_a_bound() -> None:
    log = RunLog()
    for number in range(1_000):
        log.add(run(number)._replace(failed=number % 5 == 0), 10.0)
    sent = log.take(10.0)
    assert firsts(sent)[: run_log.MOST_FAILED] == [n * 5 for n in range(run_log.MOST_FAILED)]
    assert len(firsts(sent)) <= run_log.MOST_FAILED + run_log.MOST_RUNS
    assert sent.groups[0].figures[10] == 1


def test_of_what_children_report_the_same_sample_goes_out() -> None:
    log = RunLog()
    for number in range(1_000):
        status = m.Status.RAISED if number == 901 else m.Status.OK
        seconds = 1.0 if number == 903 else 0.001
        event = Finished(0, 1, b"", [], seconds, 0, run=(9.0, 0.0, 0))
        log.finished(("job", 1), [number], bytes([status]), [], event, 10.0)
    told = firsts(log.take(10.0))
    # The long one and the failed one stay, and do not count among the others.
    assert told == [903, 901, *range(31, 900, 32), 929, 961, 993]


def test_a_run_tells_how_long_it_waited_what_it_was_given_and_what_failed() -> None:
    log = RunLog()
    log.arrived(assigned("job", 1, [3, 4, 5]), 8.0)
    log.arrived(assigned("job", 2, [4]), 8.9)
    event = Finished(0, 1, b"", [], 0.2, 60, run=(9.0, 0.1, 2_048))
    statuses = bytes([m.Status.OK, m.Status.RAISED])
    log.finished(("job", 1), [4, 5], statuses, [b"12345", (b"1", b"23"), b"of another"], event, 9.5)
    died = Died(1, 1, 1, "it died", ran=(9.25, 4_096))
    log.died(("job", 2), 4, [b"1234"], died, 9.5)
    sent = log.take(10.0)
    death, run = (group.figures for group in sent.groups)
    assert run == [4, 2, 0, 1_000_000, 200_000, 100_000, 2_048, 60, 1_000_001, 8, 1]
    assert death == [4, 1, 1, 750_000, 250_000, 0, 4_096, 0, 350_001, 4, 1]


def test_of_arrivals_the_latest_are_remembered() -> None:
    log = RunLog()
    for index in range(1 + run_log.MOST_ARRIVALS):
        log.arrived(assigned("job", 1, [index]), 8.0)
    log.add(run(0), 10.0)
    log.add(run(1), 10.0)
    sent = log.take(10.0)
    assert sent.groups[0].figures[8 :: m.RUN_FIGURES] == [0, 1_000_001]


def test_times_that_make_no_sense_are_sent_as_what_the_wire_takes() -> None:
    log = RunLog()
    log.add(run(0, 1e300, 1e300), 10.0)
    sent = log.take(10.0)
    assert sent.groups[0].figures[3:5] == [0, 10**15]


def test_what_runs_is_told_until_it_has_ended_or_something_else_runs() -> None:
    log = RunLog()
    log.follow([RunningTask(("job", 2), 7, 1, 8.0, 20_480)], 10.0)
    told = m.RunGroup("job", 2, [7, 1, 1, 2_000_000, 2_000_000, 0, 20_480, *[0] * 4])
    assert (log.take(10.0), log.due) == (m.Ran([], [told]), math.inf), "it is told once"
    # Another slot, and what ended in this one before it began.
    log.add(run(0), 11.0)
    log.add(Run(("job", 2), 6, 1, 1, 7.0, 1.0, 0.0, 0, 0), 11.0)
    sent = log.take(11.0)
    assert [group.figures[0] for group in sent.running] == [7]
    log.tell_again(12.0)
    assert [log.due] == [12.0]
    log.add(Run(("job", 2), 7, 1, 1, 8.0, 4.5, 0.0, 0, 0), 12.5)
    sent = log.take(12.5)
    assert (firsts(sent), sent.running) == ([7], [])
    log.tell_again(13.0)
    assert log.due == math.inf, "nothing runs"


def test_of_very_many_that_run_a_part_is_told() -> None:
    log = RunLog()
    log.follow([RunningTask(("job", 1), n, n, 8.0, 0) for n in range(1_000)], 10.0)
    sent = log.take(10.0)
    assert len(sent.running[0].figures) == m.MAX_RUNNING * m.RUN_FIGURES
