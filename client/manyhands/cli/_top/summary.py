"""The lines above the tables of `manyhands top`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyhands.cli._top.columns import compact


def figures(health: Mapping[str, Any]) -> str:
    """The cluster in one line, by what the broker tells of its health."""
    nodes = sum(health["nodes"].values())
    slots = "slot" if health["slots"] == 1 else "slots"
    words = [
        f"{compact(nodes)} {'node' if nodes == 1 else 'nodes'}",
        f"{compact(health['running'])} of {compact(health['slots'])} {slots} busy",
        f"{compact(health['queued'])} queued",
        f"{compact(health['jobs'])} open {'job' if health['jobs'] == 1 else 'jobs'}",
    ]
    return "  ".join(words)


def rate(jobs: Mapping[str, Any]) -> str:
    """Tasks that end each second, by the broker's view of jobs, behind the other figures."""
    at = jobs["job_columns"].index("rate")
    return f"  {compact(sum(row[at] for row in jobs['jobs'].values()))} tasks/s"
