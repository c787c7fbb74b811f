"""`manyhands cancel`: end jobs that have not ended."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb

_ENDED = ("done", "failed", "cancelled")


@click.command(
    cls=Verb,
    name="cancel",
    examples=(("the ids are those of `manyhands jobs`", "manyhands cancel 4f0c2b9a1e7d"),),
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@client_options("cancel")
def command(*, jobs: tuple[str, ...], **connection: Any) -> None:
    """Cancel jobs, of whatever client: what waits is dropped, what runs is killed."""
    from manyhands.cli._connect import client  # noqa: PLC0415 - so that --help is quick

    with client(**connection) as connected:
        states = {job["id"]: job["state"] for job in connected.query("jobs")}
        unknown = [job for job in jobs if job not in states]
        if unknown:
            raise JobFailed(f"no such job: {', '.join(unknown)}; see: manyhands jobs")
        for job in jobs:
            if states[job] in _ENDED:
                _output.note(f"{job} had ended before: {states[job]}")
            else:
                connected.cancel(job)
        # The answer comes behind the cancellations, so they have been done by then.
        states = {job["id"]: job["state"] for job in connected.query("jobs")}
    for job in jobs:
        click.echo(f"{job} {states.get(job, 'cancelled')}")
