"""`manyhands jobs`: what the broker has to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands import Client


@click.command(
    cls=Verb,
    name="jobs",
    examples=(
        ("", "manyhands jobs"),
        (
            "which are not done yet?",
            "manyhands jobs --json | jq '.jobs[] | select(.state != \"done\")'",
        ),
    ),
)
@client_options("jobs")
@json_option
def command(*, json: bool, **connection: Any) -> None:
    """List the jobs that the broker knows, the latest last."""
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    with client(**connection) as connected:
        jobs = sorted(_all(connected), key=lambda job: job["submitted"])
    if json:
        _output.document(jobs=jobs)
        return
    columns = ("id", "name", "function", "state", "tasks", "queued", "running", "done", "failed")
    now = time.time()
    _output.table(
        [*columns, "age"],
        [[*(job[column] for column in columns), _age(now - job["submitted"])] for job in jobs],
    )


def _all(connected: Client) -> list[dict[str, Any]]:
    """Every job, page by page; one that changes its place meanwhile is there once all the same."""
    found: dict[str, dict[str, Any]] = {}
    skip = 0
    while page := connected.query("jobs", skip=skip):
        found.update((job["id"], job) for job in page)
        skip += len(page)
    return list(found.values())


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
