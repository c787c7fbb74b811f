"""`manyhands logs`: what the tasks of a job printed."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="logs",
    examples=(("", "manyhands logs 4f0c"), ("", "manyhands logs 4f0c --last 100")),
)
@click.argument("job", metavar="JOB")
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="How many pieces of output to print, the latest.",
)
@client_options("logs")
@json_option
def command(*, job: str, last: int, json: bool, **connection: Any) -> None:
    """Print what the tasks of a durable job wrote to stdout and stderr.

    In a job of several tasks each line begins with the number of its task.
    """
    from manyhands.cli import _named  # noqa: PLC0415 - so that --help is quick

    with _named.durable_job(job, **connection) as found:
        pieces = found.output(last)
    if json:
        _output.document(job=found.id, output=pieces)
        return
    for piece in pieces:
        label = f"{piece['index']}: " if found.tasks > 1 else ""
        for line in piece["text"].splitlines():
            _output.raw(label + line)
