"""`manyhands logs`: what the tasks of a job printed."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="logs",
    examples=(("", "manyhands logs 4f0c"), ("", "manyhands logs 4f0c --last 100")),
)
@click.argument("job", metavar="JOB", shell_complete=_completing.jobs)
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
    """Print what the tasks of a durable job wrote to stdout and stderr, and what they raised.

    In a job of several tasks each line begins with the number of its task. Behind all comes each kind
    of exception with its tasks and the traceback of one of them.
    """
    from manyhands.cli import _connect, _history, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        found = client.attach(_named.find(client, job)["id"])
        pieces = found.output(last)
        failures = client.query("history", id=found.id).get("failures")
    if json:
        _output.document(job=found.id, output=pieces, failures=failures)
        return
    for piece in pieces:
        label = f"{piece['index']}: " if found.tasks > 1 else ""
        for line in piece["text"].splitlines():
            _output.raw(label + line)
    if failures:
        _history.print_failures(failures, lines=None)
