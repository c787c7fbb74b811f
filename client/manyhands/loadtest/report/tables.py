"""The tables of a report: what the markdown and the page both show. Rows of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manyhands.loadtest.latency import PERCENTILES
from manyhands.loadtest.report import numbers
from manyhands_shared.text import amount

Row = list[str]


@dataclass(frozen=True)
class Table:
    """A title, a sentence about it, headings and rows; all but the first column are figures."""

    title: str
    about: str
    headings: Row
    rows: list[Row]


def verdict(document: dict[str, Any]) -> str:
    """Whether the answers were right, in a sentence."""
    book = document["book"]
    if document["problem"]:
        return f"FAILED: {document['problem']}"
    return f"All {book['asked']:,} answers came, once each, and were right."


def headline(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The figures that matter: what, how much, and a remark."""
    scaling = document["scaling"]
    if scaling:
        last = scaling[-1]
        return [
            (
                "at the most hosts",
                f"{numbers.rate(last['throughput'])} tasks/s",
                f"{amount(last['hosts'], 'host')}, {amount(last['slots'], 'slot')}",
            ),
            (
                "of linear",
                numbers.percent(min(row["efficiency"] for row in scaling)),
                "the lowest of all numbers of hosts",
            ),
        ]
    run = document["runs"][0]
    found = [("most done", f"{numbers.rate(run['saturation'])} tasks/s", "in any one step")]
    if run["sustained"]:
        found.append(
            (
                "kept up with",
                f"{numbers.rate(run['sustained'])} tasks/s",
                "the highest offered load that was done as fast as it came",
            )
        )
    quiet = run["steps"][calm(run)]
    p99 = quiet["latency"]["percentiles"].get("99")
    return [*found, ("latency, 99 %", numbers.time(p99), quiet["label"])]


def setting(document: dict[str, Any]) -> str:
    """What was done on what, in a line."""
    plan, machine = document["plan"], document["machine"]
    clients = f"{plan['clients']} client process{'es' if plan['clients'] > 1 else ''}"
    return (
        f"{document['when']} · manyhands {document['manyhands']} · Python {machine['python']} · "
        f"{machine['system']}, {machine['cores']} cores, {numbers.size(machine['memory'])} · "
        f"tasks: {plan['mix']} · {clients} · {plan['seconds']:g} s a step after {plan['warmup']:g} s · "
        f"{plan['arrivals']} arrivals · seed {plan['seed']}"
    )


def tables(document: dict[str, Any]) -> Iterator[Table]:
    """All of a document, in order."""
    if document["scaling"]:
        yield _scaling(document["scaling"])
    yield _steps(document["runs"])
    if any(step["parts"] for _, step in _named(document["runs"])):
        yield _parts(document["runs"])
    yield _nodes(document["runs"][-1])


def cluster(nodes: int, slots: int) -> str:
    """``1 node, 2 slots``."""
    return f"{amount(nodes, 'node')}, {amount(slots, 'slot')}"


def _named(runs: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step, by its load and, in a sweep, its hosts."""
    for run in runs:
        prefix = f"{amount(run['hosts'], 'host')}: " if len(runs) > 1 else ""
        for step in run["steps"]:
            yield prefix + step["label"], step


def _scaling(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Scaling",
        "Throughput against a line through the first row. It is the slope through all completions, "
        "since equal tasks end in waves that a count would cut.",
        ["hosts", "slots", "tasks/s", "linear", "of linear"],
        [
            [
                *(str(row["hosts"]), str(row["slots"])),
                *(numbers.rate(row["throughput"]), numbers.rate(row["linear"])),
                f"{row['efficiency']:.3f}",
            ]
            for row in rows
        ],
    )


def _steps(runs: list[dict[str, Any]]) -> Table:
    percentiles = [f"{percent:g}" for percent in PERCENTILES]
    rows = []
    for name, step in _named(runs):
        latency = step["latency"]
        rows.append(
            [
                name,
                numbers.rate(step["throughput"]),
                *(numbers.time(latency["percentiles"].get(percent)) for percent in percentiles),
                numbers.time(latency["max"]),
                numbers.percent(max(step["clients_busy"])),
            ]
        )
    return Table(
        f"Steps: {runs[-1]['label']}, {cluster(runs[-1]['nodes'], runs[-1]['slots'])}"
        if len(runs) == 1
        else "Steps",
        "Latency runs from the intended start of a task to its result at the client. The last column is "
        "the busiest client's use of a core.",
        ["load", "tasks/s", *(f"{percent} %" for percent in percentiles), "max", "client"],
        rows,
    )


def _parts(runs: list[dict[str, Any]]) -> Table:
    rows = []
    for load, step in _named(runs):
        for name, latency in step["parts"].items():
            found = latency["percentiles"]
            rows.append(
                [
                    f"{load}: {name}",
                    f"{latency['count']:,}",
                    *(numbers.time(found.get(f"{percent:g}")) for percent in PERCENTILES),
                    numbers.time(latency["max"]),
                ]
            )
    return Table(
        "Kinds of tasks",
        "The same, for each kind of the mix.",
        ["load and kind", "tasks", *(f"{percent:g} %" for percent in PERCENTILES), "max"],
        rows,
    )


def _nodes(run: dict[str, Any]) -> Table:
    step = run["steps"][busiest(run)]
    return Table(
        f"Nodes: {run['label']}",
        f"Tasks within the step “{step['label']}”, and CPU in cores as its heartbeats tell.",
        ["node", "slots", "tasks", "share", "CPU"],
        [
            [
                *(str(node["name"]), str(node["slots"]), f"{node['done']:,}"),
                numbers.percent(node["share"]),
                "-" if node["cpu"] is None else f"{node['cpu']:.2f}",
            ]
            for node in step["nodes"]
        ],
    )


def busiest(run: dict[str, Any]) -> int:
    """Index of the step with the highest throughput."""
    steps = run["steps"]
    return max(range(len(steps)), key=lambda index: float(steps[index]["throughput"]))


def calm(run: dict[str, Any]) -> int:
    """Index of the open step nearest to half of what was done at most; else of the first step."""
    steps = run["steps"]
    loads = [i for i, step in enumerate(steps) if step["loop"] == "open"]
    half = run["saturation"] / 2
    return min(loads, key=lambda i: abs(steps[i]["offered"] - half), default=0)
