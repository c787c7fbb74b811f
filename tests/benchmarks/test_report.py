"""What the benchmarks make of their figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.reporting import chart, publish, report, results
from bench.reporting.results import OURS, Run
from bench.reporting.targets import Verdict, verdicts

POOL, RAY, GONE = "multiprocessing.Pool", "Ray", "Dask distributed"


@pytest.fixture
def run() -> Run:
    where = {"workers": 2, "cores": 2, "python": "3.x", "system": "Linux", "when": "2030-01-01"}
    systems = [OURS, POOL, RAY, GONE]
    found = Run(systems, 3, where, settings=dict.fromkeys(systems, "as it comes"), complete=True)
    for rate in (90.0, 120.0, 100.0):
        found.add(OURS, {"no-op tasks/s": rate})
    found.add(OURS, {"round trip p50, ms": 0.5, "task of a chain, round trips": 1.2})
    found.add(POOL, {"no-op tasks/s": 40.0})
    found.add(RAY, {"no-op tasks/s": 2.0, "round trip p50, ms": 2.0, "odd <figure>": 1.0})
    found.missing[GONE] = "it could not be installed: no such version"
    found.failures[RAY] = {"results": "no answer within 120 s"}
    found.limits = {"pipe round trip p50, ms": 0.02}
    cost = "long queue: broker's CPU per task, µs"
    found.fleet = {"1": {cost: 1.0}, "64": {cost: 1.1}, "1000": {cost: 1.5}}
    return found


def test_ratios_say_how_many_times_better_manyhands_is(run: Run) -> None:
    assert run.median(OURS, "no-op tasks/s") == 100
    assert run.ratio(RAY, "no-op tasks/s") == 50
    assert run.ratio(RAY, "round trip p50, ms") == 4
    assert run.ratio(RAY, "idle <x>") is None


@pytest.mark.parametrize(
    ("figure", "less"),
    [
        ("no-op tasks/s", False),
        ("CPU per task, µs", True),
        ("round trip p99, ms", True),
        ("map of 1,000,000, items/s", False),
        ("Executor.map of 1,000,000, items/s", False),
        ("16 MB results, MB/s", False),
        ("64 MB argument x 100 tasks, s", True),
        ("chain of 1,000 tasks, s", True),
        ("task of a chain, round trips", True),
        ("diamond of 64 MB arrays, s", True),
        ("sleep(0.05) x 64, of ideal", False),
        ("idle CPU, % of a core", True),
        ("idle memory, PSS MB", True),
        ("first result, s", True),
    ],
)
def test_it_is_known_of_every_figure_whether_less_is_better(figure: str, less: bool) -> None:
    assert results.less_is_better(figure) is less


def test_targets_are_met_or_not_or_not_known(run: Run) -> None:
    found = {verdict.target: verdict for verdict in verdicts(run)}
    assert len(found) == len(verdicts(run))
    what = "no-op tasks/s: 3 x `multiprocessing.Pool`"
    assert found[what] == Verdict(what, "2.5 x", met=False)
    what = "no-op tasks/s: 45 x the best networked system"
    assert found[what] == Verdict(what, "50 x (Ray)", met=True)
    assert found["lone round trip, p50: at most 0.3 ms"].met is False
    what = "task of a chain: at most 1.5 lone round trips"
    assert found[what] == Verdict(what, "1.2 lone round trips", met=True)
    assert found["first result from nothing: at most 0.6 s"].met is None
    assert found["broker's cost per task with 64 nodes against 1: at most 1.2 x"].met is True
    assert found["broker's cost per task with 1,000 nodes against 1: at most 1.2 x"].met is False


def test_the_tables_name_what_was_not_measured_and_what_was_not_met(run: Run) -> None:
    text = report.markdown(run)
    assert f"| {RAY} | 2 (50) | 2 (4) |" in text
    assert f"| {RAY} | 1 |" in text, "a figure without a table has one of its own"
    assert "| no-op tasks/s: 3 x `multiprocessing.Pool` | 2.5 x | **not met** |" in text
    assert f"{GONE} was not measured: it could not be installed: no such version" in text
    assert f"{RAY}, results: no answer within 120 s" in text
    assert "pipe round trip p50, ms: 0.02" in text
    assert "before it was complete" not in text
    run.complete = False
    assert "before it was complete" in report.markdown(run)


def test_a_run_is_the_same_when_it_was_saved_and_loaded(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    run.save(path)
    assert Run.load(path) == run
    path.write_text('{"version": 1}')
    with pytest.raises(ValueError, match="run the benchmarks again"):
        Run.load(path)


def test_the_chart_is_a_drawing_of_what_matters(run: Run) -> None:
    drawing = ET.fromstring(chart.svg(run))
    words = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    for title in ("No-op tasks a second", "Round trip of a lone task, median ms"):
        assert title in words
    assert words.count(RAY) == 2
    assert GONE not in words
    rows = [word for word in words if word in (OURS, POOL, RAY)]
    assert rows == [OURS, POOL, RAY, OURS, RAY], "the best first"


def test_a_run_goes_between_the_marks_of_the_page() -> None:
    page = publish.inserted("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter", "new")
    assert page == "before\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nafter"
    with pytest.raises(ValueError, match="no place"):
        publish.inserted("nothing", "new")
    assert publish.inserted(Path("docs/performance.md").read_text(), "new")
