"""`manyhands wait`: until a job is over."""

from __future__ import annotations

import time
from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._duration import TIME_LIMIT
from manyhands.cli._errors import JobFailed, TimedOut
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="wait",
    examples=(("", "manyhands wait 4f0c && manyhands results 4f0c"),),
)
@click.argument(
    "jobs", nargs=-1, required=True, metavar="JOB...", type=NAMED, shell_complete=_completing.jobs
)
@click.option("--timeout", type=TIME_LIMIT, help="Give up after this time, with exit code 124.")
@client_options("wait")
@json_option
def command(*, jobs: tuple[str, ...], timeout: float | None, json: bool, **connection: Any) -> None:
    """Wait until jobs are over, and print how each ended: done, failed or cancelled.

    Exit code 0 says that all are done. It is no matter whether the broker is restarted meanwhile.
    """
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    deadline = None if timeout is None else time.monotonic() + timeout
    ended: list[dict[str, str]] = []
    with _connect.client(patient=True, **connection) as client:
        for job in [client.job(_named.find(client, text)["id"]) for text in jobs]:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not job.wait(left):
                raise TimedOut(f"job {job.id} is not over after {timeout:g} s; it goes on")
            ended.append({"id": job.id, "state": _named.patiently(job.state)})
            if not json:
                _output.say(f"{job.id} {ended[-1]['state']}")
    if json:
        _output.document(jobs=ended)
    if {job["state"] for job in ended} != {"done"}:
        raise JobFailed("not every job is done; see: manyhands results JOB, manyhands show JOB")
