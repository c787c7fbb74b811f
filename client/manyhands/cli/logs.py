"""`manyhands logs`: what the tasks of a job printed."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from manyhands import Job

#: Pieces in one answer while the command follows a job, and seconds between two questions.
_PAGE = 1_000
_POLL_SECONDS = 0.5


@click.command(
    cls=Verb,
    name="logs",
    examples=(
        ("", "manyhands logs 4f0c --last 100"),
        ("what comes, until the job is over", "manyhands logs 4f0c --follow"),
        ("of one task", "manyhands logs 4f0c --task 1"),
    ),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="How many pieces of output to print, the latest.",
)
@click.option("--task", type=click.IntRange(min=0), help="Print the output of this task alone.")
@click.option("--follow", is_flag=True, help="Go on with what is printed, until the job is over.")
@client_options("logs")
@json_option
def command(
    *, job: str, last: int, task: int | None, follow: bool, json: bool, **connection: Any
) -> None:
    """Print what the tasks of a durable job wrote to stdout and stderr, and what they raised.

    In a job of several tasks each line begins with the number of its task. Behind all comes each kind
    of exception with its tasks and the traceback of one of them, but not with --task.

    The broker keeps the last 1,000 pieces of a job, of up to 48 KiB. Of a task that prints more than
    64 KiB it gets the beginning and the end. While such a task runs, its last output comes every ten
    seconds.
    """
    from manyhands.cli import _connect, _history, _named  # noqa: PLC0415 - so that --help is quick

    if follow and json:
        raise click.UsageError("--follow prints lines as they come, and --json one document")
    with _connect.client(**connection) as client:
        found = client.attach(_named.find(client, job)["id"])
        if task is not None and task >= found.tasks:
            raise JobFailed(f"job {found.id} has {amount(found.tasks, 'task')}, numbered from 0")
        pieces = found.output(last, task=task)
        if json:
            failures = client.query("history", id=found.id).get("failures")
            _output.document(job=found.id, output=pieces, failures=failures)
            return
        labelled = found.tasks > 1 and task is None
        _print(pieces, labelled=labelled)
        if follow:
            _follow(found, pieces[-1]["position"] if pieces else 0, task, labelled=labelled)
        failures = client.query("history", id=found.id).get("failures")
    if failures and task is None:
        _history.print_failures(failures, lines=None)


def _follow(job: Job, position: int, task: int | None, *, labelled: bool) -> None:
    """Print what comes behind a position until the job is over. The broker may be away meanwhile."""
    from manyhands.cli import _named  # noqa: PLC0415 - as said above

    pause, is_over = threading.Event(), False
    while True:
        pieces = _named.patiently(partial(job.output, _PAGE, after=position, task=task))
        if pieces:
            _print(pieces, labelled=labelled)
            position = pieces[-1]["position"]
        elif is_over:
            return
        else:
            is_over = _named.patiently(job.state) in _named.ENDED
            if not is_over:
                pause.wait(_POLL_SECONDS)


def _print(pieces: list[dict[str, Any]], *, labelled: bool) -> None:
    for piece in pieces:
        label = f"{piece['index']}: " if labelled else ""
        for line in piece["text"].splitlines():
            _output.raw(label + line)
