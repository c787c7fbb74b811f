"""`manyhands submit`: a job that is left with the broker."""

from __future__ import annotations

from typing import IO, Any

import click

from manyhands.cli import _lines, _output
from manyhands.cli._arguments import VerbWithValues
from manyhands.cli._job_options import split, task_options
from manyhands.cli._options import client_options, json_option


@click.command(
    cls=VerbWithValues,
    name="submit",
    examples=(
        ("one task; the job's id goes to stdout", "manyhands submit math:factorial 20"),
        (
            "a task for each line of a file, in your own work.py",
            "job=$(manyhands submit work:score --input items.jsonl --retries 3)",
        ),
        ("", "manyhands results $job --output results.jsonl"),
        ("begun when that job is done, with its results", "manyhands submit work:sum --after $job"),
    ),
)
@click.argument("target", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@click.option(
    "--kwarg", "kwargs", multiple=True, metavar="NAME=VALUE", help="A keyword argument; repeatable."
)
@click.option(
    "--input",
    "source",
    type=click.File("r", encoding="utf-8"),
    help="JSON lines, one task each (- for stdin), instead of ARGS.",
)
@click.option(
    "--star",
    is_flag=True,
    help="With --input: spread an array over positional, an object over keyword arguments.",
)
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    help="Begin when this job is done; its results come before the arguments, as a list; repeatable.",
)
@task_options
@client_options("submit")
@json_option
def command(
    *,
    target: str,
    arguments: tuple[str, ...],
    kwargs: tuple[str, ...],
    source: IO[str] | None,
    star: bool,
    after: tuple[str, ...],
    name: str,
    json: bool,
    **options: Any,
) -> None:
    """Leave a job with the broker, print its id, and return.

    The broker keeps the job and its results, over its own restarts too if it runs with --journal, for
    as long as its --keep-results says. Any client can ask for it then: see `manyhands show`, `wait`,
    `results`, `logs`, `why`, `pause`, `resume`, `cancel`, `retry` and `forget`.

    Arguments are read as by `manyhands run`, lines as by `manyhands map`. Modules in the working
    directory are found first and sent along.
    """
    from manyhands.cli import _connect, _job, _named, _target  # noqa: PLC0415 - so that --help is quick

    if source is not None and (arguments or kwargs):
        raise click.UsageError(
            "give either --input or arguments, not both", click.get_current_context()
        )
    function = _target.load(target)
    if source is not None:
        calls = list(_lines.read_calls(source, star=star))
    else:
        calls = [(tuple(map(_target.literal, arguments)), dict(map(_target.keyword, kwargs)))]
    chosen, connection = split(options)
    with _connect.client(**connection) as client:
        parents = [_named.find(client, parent)["id"] for parent in after]
        job = _job.submit(
            client, function, calls, name=name or target, durable=True, after=parents, **chosen
        )
    if json:
        _output.document(job=job.id, tasks=job.tasks)
    else:
        _output.say(job.id)
