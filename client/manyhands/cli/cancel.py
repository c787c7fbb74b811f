"""`manyhands cancel`: end jobs that have not ended."""

from __future__ import annotations

from typing import Any

import click

from manyhands import Client
from manyhands.cli import _completing, _output
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb
from manyhands.job import ENDED_STATES
from manyhands_shared.errors import Refused


@click.command(
    cls=Verb,
    name="cancel",
    examples=(
        (
            "the ids are those of `manyhands jobs`; their beginnings will do",
            "manyhands cancel 4f0c",
        ),
    ),
)
@click.argument(
    "jobs", nargs=-1, required=True, metavar="JOB...", type=NAMED, shell_complete=_completing.jobs
)
@client_options("cancel")
@json_option
def command(*, jobs: tuple[str, ...], json: bool, **connection: Any) -> None:
    """Cancel jobs, of whatever client: what waits is dropped, what runs is killed."""
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        found = [_named.find(client, job) for job in jobs]
        for job in found:
            if job["state"] in _named.ENDED:
                _output.note(f"{job['id']} had ended before: {job['state']}")
            else:
                _cancel(client, job["id"])
        states = {
            now["id"]: now["state"]
            for job in found
            for now in client.query("jobs", begins=job["id"])
        }
    now = [{"id": job["id"], "state": _state(states.get(job["id"]))} for job in found]
    if json:
        _output.document(jobs=now)
        return
    for job in now:
        _output.say(f"{job['id']} {job['state']}")


def _state(state: str | None) -> str:
    """What is told of a job that was to be cancelled: its tasks may still be on their way to the end."""
    return state if state in ENDED_STATES else "cancelled"


def _cancel(client: Client, job_id: str) -> None:
    try:
        client.query("cancel", id=job_id)
    except Refused:
        if client.query("job", id=job_id)["state"] not in ENDED_STATES:
            raise  # and not only because it ended just now
