"""`manyhands submit`: a job that is left with the broker."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import click

from manyhands.cli import _completing, _lines, _output
from manyhands.cli._arguments import VerbWithValues
from manyhands.cli._job_options import split, surroundings_options, task_options
from manyhands.cli._lines import Reading
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._read_options import read_options, reading
from manyhands.cli._reader import LineReader


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
@click.argument("target", metavar="MODULE:FUNCTION", shell_complete=_completing.targets)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@click.option(
    "--kwarg", "kwargs", multiple=True, metavar="NAME=VALUE", help="A keyword argument; repeatable."
)
@click.option(
    "--input",
    "source",
    metavar="FILE",
    help="JSON lines, one task each (- for stdin), instead of ARGS.",
)
@read_options
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    type=NAMED,
    shell_complete=_completing.jobs,
    help="Begin when this job is done; its results come before the arguments, as a list; repeatable.",
)
@task_options
@surroundings_options
@client_options("submit")
@json_option
def command(
    *,
    target: str,
    arguments: tuple[str, ...],
    kwargs: tuple[str, ...],
    source: str | None,
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

    context = click.get_current_context()
    if source is not None and (arguments or kwargs):
        raise click.UsageError("give either --input or arguments, not both", context)
    reads = reading(options)
    if source is None and reads != Reading():
        raise click.UsageError("--star, --lines and --arg are for --input", context)
    function = _target.load(target)
    chosen, connection = split(options)
    sent, arguments_of = _job.bound(
        function, by_name=bool(kwargs) or reads.star, safe=bool(chosen.get("safe"))
    )
    with contextlib.ExitStack() as stack:
        if source is None:
            call = (tuple(map(_target.literal, arguments)), dict(map(_target.keyword, kwargs)))
            calls = iter([call])
        else:
            reader = stack.enter_context(LineReader(source))
            if reader.is_file:
                # All of it is looked at first: no part of a job is left of a file with a wrong line.
                with LineReader(source) as before:
                    for _ in _lines.read_items(before, reads):
                        continue
            items = itertools.chain.from_iterable(_lines.read_items(reader, reads))
            calls = (item.call for item in items)
        client = stack.enter_context(_connect.client(**connection))
        parents = [_named.find(client, parent)["id"] for parent in after]
        job = client.submit_job(
            sent,
            map(arguments_of, calls),
            name=name or target,
            durable=True,
            after=parents,
            **chosen,
        )
        is_lasting = _named.note_durability(client)
    if json:
        _output.document(job=job.id, tasks=job.tasks, journal=is_lasting)
    else:
        _output.say(job.id)
