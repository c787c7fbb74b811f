"""`manyhands retry`: failed tasks once more."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="retry", examples=(("", "manyhands retry --failed 4f0c"),))
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@click.option(
    "--failed", is_flag=True, required=True, help="The tasks that failed or were cancelled."
)
@client_options("retry")
@json_option
def command(*, job: str, failed: bool, json: bool, **connection: Any) -> None:  # noqa: ARG001 - required
    """Submit tasks of a durable job that is over once more, as a new job, and print its id.

    Its tasks are numbered from 0, in the order of those that they repeat.
    """
    from manyhands.cli import _named  # noqa: PLC0415 - so that --help is quick

    with _named.durable_job(job, **connection) as found:
        try:
            again = found.retry_failed()
        except ValueError as error:
            raise JobFailed(str(error)) from None
    if json:
        _output.document(job=again.id, tasks=again.tasks)
    else:
        _output.say(again.id)
