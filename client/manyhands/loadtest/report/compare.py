"""Two load tests side by side: what was then, and what is now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manyhands.loadtest.report import numbers
from manyhands.loadtest.report.tables import Table, calm
from manyhands.loadtest.run import DOCUMENT_VERSION
from manyhands_shared import small_file
from manyhands_shared.errors import ConfigError
from manyhands_shared.text import amount


def load(path: Path) -> dict[str, Any]:
    """A `report.json`.

    Raises:
        ConfigError: it cannot be read, or is of another kind or version.
    """
    try:
        document = json.loads(small_file.read(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; name a report.json of a load test"
        ) from None
    if not isinstance(document, dict) or document.get("kind") != "manyhands loadtest":
        raise ConfigError(f"{path} is no report of a load test; name a report.json")
    if document.get("version") != DOCUMENT_VERSION:
        raise ConfigError(
            f"{path} is of version {document.get('version')}, this manyhands writes version "
            f"{DOCUMENT_VERSION}; run that load test again"
        )
    return document


def compare(old: dict[str, Any], new: dict[str, Any]) -> Table:
    """Every figure that both have. Ratios above 1 are better now, whatever the figure."""
    rows = []
    for then, now in _runs(old, new):
        where = f"{amount(now['hosts'], 'host')}: " if now["hosts"] else ""
        for name, figure in (("most done", "saturation"), ("kept up with", "sustained")):
            if then[figure] and now[figure]:
                ratio = now[figure] / then[figure]
                rows.append(
                    [
                        where + name,
                        f"{numbers.rate(then[figure])}/s",
                        f"{numbers.rate(now[figure])}/s",
                        f"{ratio:.2f}",
                    ]
                )
        for what, before, after in _steps(then, now):
            rows += _latencies(where + what, before, after)
    about = f"Then is {old['when']}, manyhands {old['manyhands']}. Above 1 is better now."
    unlike = _differences(old, new)
    if unlike:
        about += f" These differ, so compare with care: {unlike}."
    return Table("Compared", about, ["figure", "then", "now", "times better"], rows)


def _latencies(where: str, before: dict[str, Any], after: dict[str, Any]) -> list[list[str]]:
    rows = []
    for percent in ("50", "99"):
        then = before["latency"]["percentiles"].get(percent)
        now = after["latency"]["percentiles"].get(percent)
        if then and now:
            cells = [numbers.time(then), numbers.time(now), f"{then / now:.2f}"]
            rows.append([f"{where}: latency, {percent} %", *cells])
    return rows


def _runs(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Runs on as many hosts."""
    before = {run["hosts"]: run for run in old["runs"]}
    return [(before[run["hosts"]], run) for run in new["runs"] if run["hosts"] in before]


def _steps(
    then: dict[str, Any], now: dict[str, Any]
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Steps of the same load; for ramps, whose loads follow from what they find, those at half of it."""
    before = {step["label"]: step for step in then["steps"]}
    ramps = all(run["sustained"] and not run["steps"][0]["concurrency"] for run in (then, now))
    if ramps and then["steps"][0]["loop"] == now["steps"][0]["loop"] == "closed":
        half = then["steps"][calm(then)], now["steps"][calm(now)]
        return [("at half of the most", *half)]
    return [
        (step["label"], before[step["label"]], step)
        for step in now["steps"]
        if step["label"] in before
    ]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Settings and machines that are not alike."""
    unlike = []
    for table in ("plan", "machine"):
        for key in sorted(old[table].keys() | new[table].keys()):
            then, now = old[table].get(key), new[table].get(key)
            if then != now:
                unlike.append(f"{key} {then} and {now}")
    return ", ".join(unlike)
