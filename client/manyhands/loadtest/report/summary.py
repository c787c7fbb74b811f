"""A load test's report as the dashboard of its cluster shows it: texts and points, few enough."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from manyhands.loadtest.report import tables

#: Characters that the broker takes.
MOST_CHARS = 24_000


def render(document: dict[str, Any]) -> str:
    """Return the report as JSON. Tables that would make it too long are left out, the last first."""
    shown = [asdict(table) for table in tables.tables(document)]
    told: dict[str, Any] = {
        "version": 1,
        "mix": document["plan"]["mix"],
        "setting": tables.setting(document),
        "verdict": tables.verdict(document),
        "bad": bool(document["problem"]),
        "headline": [list(one) for one in tables.headline(document)],
        "notes": document["notes"],
        "points": _points(document["runs"][-1]),
        "tables": shown,
    }
    while len(text := json.dumps(told)) > MOST_CHARS and shown:
        shown.pop()
    return text


def _points(run: dict[str, Any]) -> list[list[float | None]]:
    """Offered load, throughput, and latencies of 50 % and 99 %, of each step that offered a load."""
    found = []
    for step in run["steps"]:
        if step["loop"] == "open":
            percentiles = step["latency"]["percentiles"]
            figures = (percentiles.get("50"), percentiles.get("99"))
            found.append([step["offered"], step["throughput"], *figures])
    return sorted(found)
