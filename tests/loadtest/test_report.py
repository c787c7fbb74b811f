"""The report: complete, self-contained, and safe to open whatever names it is made of."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest

from manyhands.loadtest import latency
from manyhands.loadtest.report import charts, compare, markdown, numbers, page, summary, svg, tables
from manyhands.loadtest.run import Plan, _scaling

EVIL = "<script>alert(1)</script>|\"'&"


def step(loop: str = "open", offered: float = 100.0, done: float = 100.0) -> dict[str, Any]:
    recorder = latency.Recorder()
    recorder.extend(number * 1e-4 for number in range(1, 2_000))
    encoded = recorder.encode()
    return {
        "loop": loop,
        "label": f"{loop} loop, {offered:g} tasks/s",
        "offered": offered if loop == "open" else None,
        "concurrency": 0,
        "warmup": 1.0,
        "seconds": 5.0,
        "sent": int(offered * 5),
        "unsent": 0,
        "done": int(done * 5),
        "throughput": done,
        "slope": done,
        "latency": latency.summary(encoded),
        "hdr": encoded,
        "parts": {},
        "clients_busy": [0.3],
        "book": {"asked": 500, "right": 500, "examples": []},
        "nodes": [
            {"name": f"node-{n}", "slots": 2, "done": 10, "share": 0.5, "cpu": 0.1} for n in (1, 2)
        ],
        "samples": [
            {"at": t / 4, "queued": 5, "active": 2, "cpu_machine": 0.5, "cpu_broker": 0.2}
            for t in range(1, 20)
        ],
    }


def made(*runs: dict[str, Any]) -> dict[str, Any]:
    plan = Plan("noop")
    chosen = list(runs) or [
        one(
            step("closed", done=300),
            *(step(offered=n * 100.0, done=min(n * 100.0, 290.0)) for n in (1, 2, 3, 4)),
        )
    ]
    return {
        "version": 1,
        "kind": "manyhands loadtest",
        "when": "2026-01-01T00:00:00Z",
        "took": 30.0,
        "manyhands": "0.1.0",
        "machine": {"python": "3.13.0", "system": "Linux 6", "cores": 8, "memory": 16_000_000_000},
        "plan": {
            "mix": plan.mix,
            "clients": 1,
            "warmup": 1.0,
            "seconds": 5.0,
            "arrivals": "poisson",
            "seed": 1,
        },
        "runs": chosen,
        "scaling": _scaling(chosen),
        "book": {"asked": 2_500, "right": 2_500},
        "problem": "",
        "notes": ["a note"],
    }


def one(*steps: dict[str, Any], hosts: int = 0, slots: int = 4) -> dict[str, Any]:
    return {
        "target": "local",
        "label": "a cluster",
        "hosts": hosts,
        "nodes": hosts or 2,
        "slots": slots,
        "steps": list(steps),
        "saturation": max(each["throughput"] for each in steps),
        "sustained": 200.0,
    }


def swept() -> dict[str, Any]:
    return made(*(one(step("closed", done=4.0 * n), hosts=n, slots=2 * n) for n in (1, 2, 4)))


class Reader(HTMLParser):
    """Takes down tags and attributes, and checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("document", [made(), swept()], ids=["ramp", "sweep"])
def test_the_page_is_whole_and_needs_nothing_else(document: dict[str, Any]) -> None:
    text = page.render(document)
    found = Reader(text)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form", "a"}
    attributes = {name for _, given in found.tags for name in given}
    assert not attributes & {"style", "src", "href", "srcset"}
    assert not any(name.startswith("on") for name in attributes)
    assert "http" not in text.replace("http-equiv", "")
    for drawing in re.findall(r'<svg class="chart".*?</svg>', text):
        ET.fromstring(drawing)
        assert "nan" not in drawing.lower()


def test_the_policy_allows_the_page_its_own_style_and_nothing_more() -> None:
    text = page.render(made())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_names_that_others_gave_are_text_and_no_markup() -> None:
    document = made()
    document["plan"]["mix"] = document["problem"] = EVIL
    document["runs"][0]["label"] = EVIL
    for each in document["runs"][0]["steps"]:
        each["label"] = each["nodes"][0]["name"] = EVIL
    text = page.render(document, compare.compare(document, document))
    Reader(text)
    assert "<script" not in text
    plain = markdown.render(document, compare.compare(document, document))
    assert not re.search(r"(?<!\\)<script", plain)
    for line in plain.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in {5, 6, 9}


def test_the_charts_that_a_ramp_has() -> None:
    titles = [chart.title for chart in charts.charts(made())]
    assert titles == [
        "Throughput against offered load",
        "Latency against offered load",
        "Latency by percentile",
        "Share of each node",
        "Queue depth over the steps",
        "CPU over the steps",
    ]


def test_a_sweep_is_drawn_against_a_line() -> None:
    document = swept()
    assert [row["efficiency"] for row in document["scaling"]] == pytest.approx([1, 1, 1])
    assert next(charts.charts(document)).title == "Throughput by hosts"
    text = markdown.render(document)
    assert "| 4 | 8 | 16 | 16 | 1.000 |" in text
    assert "of linear: **100 %**" in text


def test_the_headline_and_the_verdict() -> None:
    document = made()
    text = markdown.render(document)
    assert "most done: **300 tasks/s**" in text
    assert "kept up with: **200 tasks/s**" in text
    assert "All 2,500 answers came, once each, and were right." in text
    document["problem"] = "of 2,500 answers 1 wrong; first: task 3"
    assert "**FAILED: of 2,500 answers 1 wrong" in markdown.render(document)


def test_a_comparison_says_how_many_times_better_it_is_now() -> None:
    old, new = made(), made()
    new["runs"][0]["saturation"] = 600.0
    new["runs"][0]["steps"] = copy.deepcopy(new["runs"][0]["steps"])
    for each in new["runs"][0]["steps"]:
        each["latency"]["percentiles"] = {
            name: seconds / 4 for name, seconds in each["latency"]["percentiles"].items()
        }
    table = compare.compare(old, new)
    rows = {row[0]: row[-1] for row in table.rows}
    assert rows["most done"] == "2.00"
    assert rows["kept up with"] == "1.00"
    assert rows["at half of the most: latency, 99 %"] == "4.00"
    assert "differ" not in table.about
    new["machine"]["cores"] = 2
    assert "cores 8 and 2" in compare.compare(old, new).about


def test_axes_end_on_round_numbers() -> None:
    assert list(svg.linear("", [0, 97_300]).ticks) == [0, 20_000, 40_000, 60_000, 80_000, 100_000]
    assert list(svg.linear("", [0.3]).ticks) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert next(iter(svg.linear("", []).ticks)) == 0
    log = svg.logarithmic("", [0.003, 0.4], numbers.time)
    assert list(log.ticks) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert log.at(0.001) == 0
    assert log.at(1) == 1
    assert log.at(0.0316) == pytest.approx(0.5, abs=0.01)
    nines = svg.nines("", 99.95)
    assert list(nines.ticks) == [0, 90, 99, 99.9, 99.99]
    assert nines.at(99) == pytest.approx(0.5)


def test_numbers_read_well() -> None:
    assert numbers.rate(97_312.4) == "97,312"
    assert numbers.rate(4.0213) == "4.021"
    assert numbers.time(2.013) == "2.01 s"
    assert numbers.time(0.0123) == "12.3 ms"
    assert numbers.time(840e-6) == "840 µs"
    assert numbers.time(None) == numbers.rate(None) == numbers.percent(None) == "-"
    assert numbers.size(16.8e9) == "16.8 GB"
    assert numbers.short(20_000) == "20k"


def test_the_dashboard_gets_the_same_tables() -> None:
    document = made()
    told = json.loads(summary.render(document))
    assert (told["version"], told["bad"], told["mix"]) == (1, False, "noop")
    shown = [table["title"] for table in told["tables"]]
    assert shown == [table.title for table in tables.tables(document)]
    assert [point[:2] for point in told["points"]] == [
        [100, 100],
        [200, 200],
        [300, 290],
        [400, 290],
    ]


def test_what_the_dashboard_gets_is_bounded() -> None:
    document = made()
    document["runs"][-1]["steps"][0]["nodes"] *= 1_000
    text = summary.render(document)
    assert len(text) <= summary.MOST_CHARS
    assert "Nodes: " not in text
    assert "Steps: " in text
