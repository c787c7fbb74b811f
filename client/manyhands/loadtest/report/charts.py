"""The charts of a report: which there are for a document, and what is drawn in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manyhands.loadtest.report import numbers, svg
from manyhands.loadtest.report.svg import Line
from manyhands.loadtest.report.tables import busiest
from manyhands_shared.text import amount

#: Lines that one chart of percentiles bears.
_MOST_CURVES = 5


@dataclass(frozen=True)
class Chart:
    """A title, a sentence, and the drawing."""

    title: str
    about: str
    drawing: str


def charts(document: dict[str, Any]) -> Iterator[Chart]:
    """All that make sense for a document."""
    if document["scaling"]:
        yield _scaling(document["scaling"])
        # One run in full is enough beside it: the largest.
        for chart in _of_run(document["runs"][-1]):
            title = f"{chart.title}, {amount(document['runs'][-1]['hosts'], 'host')}"
            yield Chart(title, chart.about, chart.drawing)
        return
    yield from _of_run(document["runs"][0])


def _of_run(run: dict[str, Any]) -> Iterator[Chart]:
    loads = sorted(
        (step for step in run["steps"] if step["loop"] == "open"), key=lambda step: step["offered"]
    )
    if len(loads) > 1:
        yield _throughput(run, loads)
        yield _latency(loads)
    curves = [step for step in run["steps"] if step["latency"]["curve"]]
    if curves:
        yield _percentiles(curves)
    nodes = run["steps"][busiest(run)]["nodes"]
    if len(nodes) > 1:
        yield _shares(nodes)
    if any(len(step["samples"]) > 1 for step in run["steps"]):
        yield _queue(run["steps"])
        yield _cpu(run["steps"])


def _scaling(rows: list[dict[str, Any]]) -> Chart:
    measured = [(row["hosts"], row["throughput"]) for row in rows]
    ideal = [(0, 0.0), *((row["hosts"], row["linear"]) for row in rows)]
    x = svg.linear("hosts", [row["hosts"] for row in rows])
    y = svg.linear("tasks/s", [value for _, value in [*measured, *ideal]])
    lowest = min(row["efficiency"] for row in rows)
    return Chart(
        "Throughput by hosts",
        f"Against a line through the first: {lowest:.3f} of it at least.",
        svg.lines(
            x,
            y,
            [Line("measured", measured), Line("linear", ideal, mark=False, dashed=True)],
            "Throughput for each number of hosts, beside a straight line",
        ),
    )


def _throughput(run: dict[str, Any], loads: list[dict[str, Any]]) -> Chart:
    done = [(step["offered"], step["throughput"]) for step in loads]
    x = svg.linear("offered, tasks/s", [offered for offered, _ in done])
    y = svg.linear("done, tasks/s", [run["saturation"], *(value for _, value in done)])
    end = min(x.ticks[-1], y.ticks[-1])
    series = [
        Line("done", done),
        Line("as much as offered", [(0, 0), (end, end)], mark=False, dashed=True),
    ]
    pressed = [step["throughput"] for step in run["steps"] if step["loop"] == "closed"]
    if pressed:
        level = [(0, max(pressed)), (x.ticks[-1], max(pressed))]
        series.append(Line("under full pressure", level, mark=False, dashed=True))
    return Chart(
        "Throughput against offered load",
        "Where the line leaves the diagonal, the cluster takes no more.",
        svg.lines(x, y, series, "Tasks done against tasks offered, each second"),
    )


def _latency(loads: list[dict[str, Any]]) -> Chart:
    series = [
        Line(
            f"{percent} %",
            [
                (step["offered"], step["latency"]["percentiles"][percent])
                for step in loads
                if step["latency"]["count"]
            ],
        )
        for percent in ("50", "90", "99", "99.9")
    ]
    x = svg.linear("offered, tasks/s", [step["offered"] for step in loads])
    values = [value for line in series for _, value in line.points]
    y = svg.logarithmic("latency", values, numbers.time)
    return Chart(
        "Latency against offered load",
        "From the intended start of a task, so waiting for a busy cluster counts.",
        svg.lines(x, y, series, "Percentiles of latency against offered load"),
    )


def _percentiles(steps: list[dict[str, Any]]) -> Chart:
    every = max(1, -(-len(steps) // _MOST_CURVES))
    chosen = steps[::every]
    series = [
        Line(step["label"], [(p, max(s, 1e-6)) for p, s in step["latency"]["curve"]], mark=False)
        for step in chosen
    ]
    x = svg.nines("percent of the tasks", max(line.points[-1][0] for line in series))
    values = [value for line in series for _, value in line.points]
    y = svg.logarithmic("latency", values, numbers.time)
    return Chart(
        "Latency by percentile",
        "How long the unlucky wait: every nine is as wide as the last.",
        svg.lines(x, y, series, "Latency at each percentile, a line for each load"),
    )


def _shares(nodes: list[dict[str, Any]]) -> Chart:
    shares = [node["share"] for node in nodes]
    fair = [node["slots"] for node in nodes]
    even = len(set(fair)) == 1
    return Chart(
        "Share of each node",
        "Of the tasks done in the busiest step"
        + (f"; an even share is {numbers.percent(1 / len(nodes))}." if even else "."),
        svg.columns(
            [str(node["name"]) for node in nodes],
            shares,
            svg.linear("share", shares, numbers.percent),
            "The share of each node",
        ),
    )


def _queue(steps: list[dict[str, Any]]) -> Chart:
    queued = _over_time(steps, "queued")
    active = _over_time(steps, "active")
    return Chart(
        "Queue depth over the steps",
        "Tasks that wait at the broker, and those that nodes hold.",
        svg.lines(
            svg.linear("seconds", [at for at, _ in queued]),
            svg.linear("tasks", [value for _, value in [*queued, *active]]),
            [Line("waiting", queued, mark=False), Line("active", active, mark=False)],
            "Waiting and active tasks over time",
        ),
    )


def _cpu(steps: list[dict[str, Any]]) -> Chart:
    named = (
        ("cpu_machine", "this machine, of all cores"),
        ("cpu_broker", "the broker, of a core"),
        ("cpu_clients", "the clients, of a core"),
    )
    series = [
        Line(name, points, mark=False) for key, name in named if (points := _over_time(steps, key))
    ]
    values = [value for line in series for _, value in line.points]
    return Chart(
        "CPU over the steps",
        "On the machine of the load test.",
        svg.lines(
            svg.linear("seconds", [at for line in series for at, _ in line.points]),
            svg.linear("CPU", [*values, 1.0], numbers.percent),
            series,
            "CPU of the machine, the broker and the clients over time",
        ),
    )


def _over_time(steps: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """The samples of all steps, one after the other."""
    points: list[tuple[float, float]] = []
    offset = 0.0
    for step in steps:
        points += [
            (offset + sample["at"], sample[key]) for sample in step["samples"] if key in sample
        ]
        offset += max((sample["at"] for sample in step["samples"]), default=0.0)
    return points
