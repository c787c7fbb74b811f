"""What the benchmarks make of their figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench import chart, environments, report
from bench.__main__ import child
from bench.peers import PEERS
from bench.report import OURS, Run

OTHER, GONE = "Ray", "Dask distributed"


@pytest.fixture
def run() -> Run:
    found = Run(
        [OURS, OTHER, GONE],
        3,
        {"workers": 2, "cores": 2, "python": "3.x", "system": "Linux"},
    )
    found.figures[OURS] = {"no-op tasks/s": [90.0, 120.0, 100.0], "round trip p50, ms": [0.5]}
    found.figures[OTHER] = {"no-op tasks/s": [2.0], "round trip p50, ms": [2.0], "idle <x>": [1.0]}
    found.missing[GONE] = "it could not be installed: no such version"
    found.failures[OTHER] = {"results": "no answer within 120 s"}
    found.limits = {"pipe round trip p50, ms": 0.02}
    return found


def test_ratios_say_how_many_times_better_manyhands_is(run: Run) -> None:
    assert run.median(OURS, "no-op tasks/s") == 100
    assert run.ratio(OTHER, "no-op tasks/s") == 50
    assert run.ratio(OTHER, "round trip p50, ms") == 4
    assert run.ratio(OTHER, "idle <x>") is None


@pytest.mark.parametrize(
    ("figure", "less"),
    [
        ("no-op tasks/s", False),
        ("CPU per task, µs", True),
        ("round trip p99, ms", True),
        ("chunked map, items/s", False),
        ("16 MB results, MB/s", False),
        ("64 MB argument x 100 tasks, s", True),
        ("sleep(0.05) x 64, of ideal", False),
        ("idle CPU, % of a core", True),
        ("idle memory, PSS MB", True),
        ("first result, s", True),
    ],
)
def test_it_is_known_of_every_figure_whether_less_is_better(figure: str, less: bool) -> None:
    assert report.less_is_better(figure) is less


def test_the_table_names_what_was_not_measured(run: Run) -> None:
    text = report.markdown(run)
    assert f"| {OTHER} | 2 (50) | 2 (4) | 1 |" in text
    assert f"{GONE} was not measured: it could not be installed: no such version" in text
    assert f"{OTHER} has no results: no answer within 120 s" in text
    assert "pipe round trip p50, ms: 0.02" in text


def test_the_chart_is_a_drawing_of_every_figure(run: Run) -> None:
    drawing = ET.fromstring(chart.svg(run))
    words = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    for figure in run.names():
        assert any(word and word.startswith(figure) for word in words)
    assert words.count(OTHER) == 3
    assert GONE not in words


def test_a_system_that_cannot_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "loky/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "pip").touch()
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    wanted = replace(PEERS["loky"], requires=(str(tmp_path / "no-such-package"),))
    monkeypatch.setitem(PEERS, "loky", wanted)
    problem = environments.prepare("loky")
    assert problem.startswith("it could not be installed: ERROR")
    assert "no-such-package" in problem


def test_a_measure_that_fails_or_hangs_says_why_and_leaves_nothing() -> None:
    python = Path(sys.executable)
    assert child(python, ["-c", "import json; print(json.dumps({'x': 1}))"]) == {"x": 1}
    assert child(python, ["-c", "raise SystemExit('no luck')"]) == "no luck"
    assert child(python, ["-c", "raise SystemExit(3)"]) == "exit code 3"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    assert child(python, ["-c", code], seconds=0.5) == "no answer within 0.5 s"
