"""`manyhands jobs`: what the broker has to do."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands import Client

#: What a job can be in.
STATES = ("open", "queued", "waiting", "paused", "running", "done", "failed", "cancelled")


@click.command(
    cls=Verb,
    name="jobs",
    examples=(
        ("", "manyhands jobs"),
        ("what of mine has failed?", "manyhands jobs --state failed --mine"),
        ("by the beginning of their names", "manyhands jobs --name 'nightly*'"),
        (
            "which are not done yet?",
            "manyhands jobs --json | jq '.jobs[] | select(.state != \"done\")'",
        ),
    ),
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="Only jobs in this state; repeatable.",
)
@click.option("--mine", is_flag=True, help="Only jobs of your key; without keys all are yours.")
@click.option(
    "--name", "names", multiple=True, metavar="PATTERN", help="Only of such names; repeatable."
)
@client_options("jobs")
@json_option
def command(
    *,
    states: tuple[str, ...],
    mine: bool,
    names: tuple[str, ...],
    json: bool,
    **connection: Any,
) -> None:
    """List the jobs that the broker knows, the latest last.

    In a PATTERN, * stands for any characters, ? for one and [abc] for one of these.
    """
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    with client(**connection) as connected:
        known = sorted(_all(connected), key=lambda job: job["submitted"])
    jobs = [
        job
        for job in known
        if (not states or job["state"] in states)
        and (not mine or job["mine"])
        and (not names or any(fnmatch.fnmatchcase(job["name"], name) for name in names))
    ]
    if json:
        _output.document(jobs=jobs)
        return
    columns = ("id", "name", "function", "state", "tasks", "queued", "active", "done", "failed")
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
