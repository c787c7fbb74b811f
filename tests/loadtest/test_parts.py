"""The pure parts of a load test: mixes, arrivals, books, histograms, slopes, and the ramp."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.loadtest import arrivals, latency, ledger, mix, saturation
from manyhands.loadtest.plan import Step, pressure
from manyhands.loadtest.report.slope import Slope

ROUNDS = 1e5


@pytest.mark.parametrize(
    "text", ["noop", "sleep:1ms", "cpu:2ms", "array-in:100kB", "array-out:4KiB"]
)
def test_each_kind_of_task_is_answered_as_its_work_expects(text: str) -> None:
    (part,) = mix.parse(text)
    work = part.work(ROUNDS)
    answers = {token: work.function(*work.arguments(token)) for token in (1, 7, 1 << 45)}
    for token, answer in answers.items():
        assert work.is_right(token, answer)
        assert not work.is_right(token + 1, answer)
        assert not work.is_right(token, None)


def test_an_array_with_one_wrong_word_is_wrong() -> None:
    work = mix.parse("array-out:1000")[0].work(ROUNDS)
    answer = work.function(*work.arguments(5))
    answer[17] = 6
    assert not work.is_right(5, answer)
    assert not work.is_right(5, answer[:-1])


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("sleep:0.25", [0.25]),
        ("sleep:10ms", [0.01]),
        ("cpu:1m", [60.0]),
        ("array-in:1MB,array-out:2KiB", [1e6, 2048]),
        ("noop=9,sleep:1=1", [0, 1.0]),
    ],
)
def test_amounts_are_read(text: str, amounts: list[float]) -> None:
    assert [part.amount for part in mix.parse(text)] == pytest.approx(amounts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nop", "'nop' is no kind of task; there are: noop"),
        ("noop:3", "noop takes no amount"),
        ("sleep", "sleep takes an amount, as in sleep:0.25"),
        ("sleep:soon", "no duration"),
        ("array-in:1XB", "'1XB' is no size"),
        ("noop=0", "'0' is no weight"),
        ("noop=nan", "no weight"),
        ("noop,noop=2", "the same tasks twice"),
        ("", "no kind"),
    ],
)
def test_what_is_no_mix(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mix.parse(text)


def test_a_mix_is_drawn_by_its_weights_and_its_seed() -> None:
    parts = mix.parse("noop=3,sleep:1=1")
    drawn = list(itertools.islice(mix.choices(parts, 4), 10_000))
    assert drawn == list(itertools.islice(mix.choices(parts, 4), 10_000))
    assert drawn != list(itertools.islice(mix.choices(parts, 5), 10_000))
    assert Counter(drawn)[0] == pytest.approx(7_500, abs=200)
    assert len(mix.parse("mixed")) == 5


@pytest.mark.parametrize("kind", arrivals.KINDS)
@given(seed=st.integers(0, 1 << 32))
def test_arrivals_rise_come_at_their_rate_and_are_the_seeds(kind: str, seed: int) -> None:
    times = list(itertools.islice(arrivals.offsets(kind, 100.0, seed), 1_000))
    assert times == list(itertools.islice(arrivals.offsets(kind, 100.0, seed), 1_000))
    assert all(a <= b for a, b in itertools.pairwise(times))
    assert times[0] >= 0
    assert times[-1] == pytest.approx(10.0, rel=0.25)


def test_poisson_gaps_are_exponential() -> None:
    times = list(itertools.islice(arrivals.offsets("poisson", 50.0, 1), 20_000))
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.05)
    assert (gaps > 0.02).mean() == pytest.approx(math.exp(-1), abs=0.02)


def test_the_books_of_a_good_run() -> None:
    books = ledger.Ledger()
    for token in range(10):
        books.ask(token)
    for token in reversed(range(10)):
        books.confirm(token)
    books.give_up()
    assert ledger.problem(books.to_map()) == ""
    assert books.right == books.asked == 10


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("wrong", "1 wrong; first: task 3 was answered wrongly: 'x'"),
        ("twice", "1 double; first: task 2 was answered twice"),
        ("unasked", "1 double; first: task 77 was answered twice, or never asked"),
        ("missing", "1 missing; first: task 3 was never answered"),
        ("failed", "1 failed; first: task 3 failed: ValueError: no"),
    ],
)
def test_the_books_name_every_fault(fault: str, says: str) -> None:
    books = ledger.Ledger()
    for token in range(4):
        books.ask(token)
    for token in range(3):
        books.confirm(token)
    if fault == "wrong":
        books.refute(3, "'x'")
    elif fault == "failed":
        books.fail(3, "ValueError: no")
    elif fault != "missing":
        books.confirm(3)
        books.confirm(2 if fault == "twice" else 77)
    books.give_up()
    whole = ledger.total([books.to_map(), ledger.Ledger().to_map()])
    assert says in ledger.problem(whole)


def test_histograms_of_many_clients_are_one() -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(-6, 1.5) for _ in range(200_000)]
    recorders = [latency.Recorder() for _ in range(3)]
    for number, value in enumerate(values):
        recorders[number % 3].extend([value])
    found = latency.summary(latency.merge(recorder.encode() for recorder in recorders))
    values.sort()
    assert found["count"] == len(values)
    for percent, seconds in found["percentiles"].items():
        exact = values[math.ceil(float(percent) / 100 * len(values)) - 1]
        assert seconds == pytest.approx(exact, rel=2e-3, abs=1e-6)
    assert found["max"] == pytest.approx(values[-1], rel=2e-3)
    assert found["mean"] == pytest.approx(sum(values) / len(values), rel=2e-3)
    seconds = [value for _, value in found["curve"]]
    assert seconds == sorted(seconds)


def test_latencies_beyond_all_bounds_are_kept_at_the_bound() -> None:
    recorder = latency.Recorder()
    recorder.extend([0.0, -1.0, 1e-9, 5e4])
    found = latency.summary(recorder.encode())
    assert found["count"] == 4
    assert found["max"] == pytest.approx(3_600, rel=1e-3)
    assert latency.summary(latency.Recorder().encode())["percentiles"] == {}


def test_the_slope_does_not_care_where_waves_are_cut() -> None:
    for offset in range(10):
        slope = Slope()
        for wave in range(20):
            slope.add(1e6 + wave * 0.5 + offset * 0.05, 32)
        assert slope.rate == pytest.approx(64.0)
    assert Slope().rate == 0.0


@given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 50)), min_size=2, max_size=60))
def test_the_slope_in_bulk_is_the_slope_one_by_one(events: list[tuple[float, int]]) -> None:
    bulk, times = Slope(), []
    for at, count in sorted(events):
        bulk.add(at, count)
        times += [at] * count
    if times[-1] - times[0] < 1e-3:
        return
    fitted: Any = np.polyfit(np.array(times) - times[0], np.arange(len(times)), 1)[0]
    assert bulk.rate == pytest.approx(float(fitted), rel=1e-4, abs=1e-6)


def test_full_pressure_follows_the_rate_and_grows_by_steps() -> None:
    assert pressure(0.0, 2, 0) == 8
    assert pressure(100_000, 2, 8) == 16
    assert pressure(100_000, 2, 50_000) == 20_000
    assert pressure(4.0, 32, 128) == 128
    assert pressure(0.0, 0.1, 0) == 1


def test_a_step_is_shared_out_whole() -> None:
    step = Step("closed", concurrency=10)
    assert [step.share(client, 4).concurrency for client in range(4)] == [3, 3, 2, 2]
    assert [Step("open", rate=10.0).share(client, 4).rate for client in range(4)] == [2.5] * 4
    assert Step("closed").share(0, 3).concurrency == 0


def climb(capacity: float, limit: float) -> list[tuple[float, float]]:
    """A whole ramp against something that does `limit` tasks a second and no more."""
    points: list[tuple[float, float]] = []
    while (rate := saturation.next_rate(capacity, points)) is not None:
        points.append((rate, min(rate, limit)))
        assert len(points) < 30
    return points


@given(st.floats(0.3, 2.5))
def test_a_ramp_ends_and_finds_the_limit(factor: float) -> None:
    points = climb(1_000.0, 1_000.0 * factor)
    assert saturation.sustained(points) == pytest.approx(1_000.0 * factor, rel=0.2)
    assert saturation.sustained(points) <= 1_000.0 * factor / saturation.KEPT_UP


def test_a_ramp_without_a_limit_ends_too() -> None:
    assert len(climb(1_000.0, 1e9)) < 20


def test_a_ramp_that_never_keeps_up_ends() -> None:
    points = climb(1_000.0, 10.0)
    assert saturation.sustained(points) == 0.0
    assert saturation.next_rate(0.0, []) is None


def test_nothing_above_a_load_that_was_too_much_counts_as_sustained() -> None:
    assert saturation.sustained([(10, 10), (30, 30), (20, 15)]) == 10
