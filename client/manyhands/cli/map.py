"""`manyhands map`: a function over the lines of a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Any

import click

from manyhands.cli import _lines, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._job_options import job_options
from manyhands.cli._options import client_options, output_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="map",
    examples=(
        (
            "your own work.py, in this directory; one JSON value a line",
            "manyhands map work:score --input items.jsonl --output results.jsonl",
        ),
        (
            'several arguments a line: [2, 10] or {"base": 2, "exp": 10}',
            "manyhands map builtins:pow --star < pairs.jsonl",
        ),
        (
            "go on where an interrupted run ended (--overwrite begins anew)",
            "manyhands map work:score --input items.jsonl --output results.jsonl --resume",
        ),
    ),
)
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option(
    "--input",
    "source",
    type=click.File("r", encoding="utf-8"),
    default="-",
    show_default="stdin",
    help="JSON lines, one item each.",
)
@output_option
@click.option(
    "--resume",
    "old",
    flag_value="resume",
    help="Go on with an interrupted run: only items that are missing or failed in --output are run, "
    "and their lines are appended.",
)
@click.option(
    "--overwrite",
    "old",
    flag_value="overwrite",
    help="Replace what --output holds, once the broker has answered.",
)
@click.option(
    "--star",
    is_flag=True,
    help="Spread an array over positional, an object over keyword arguments.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 4_096),
    help="Slots of the cluster that this command starts; one for each core if not given.",
)
@job_options
@client_options("map")
def command(
    *,
    target: str,
    source: IO[str],
    sink: IO[str],
    old: str | None,
    star: bool,
    slots: int | None,
    name: str,
    timeout: float | None,
    **options: Any,
) -> None:
    """Run a function over every line of a file, in parallel, and write a line for each result.

    The command writes results as they come: {"index": 0, "result": ...}. NumPy arrays become nested
    arrays. Where JSON has no words for a value, "repr" has it as Python shows it. A failed item has
    "error": {"type": ..., "message": ...}. The index counts the items from 0, blank lines left out.
    Exit code 1 says that some items failed; the others' results are there nevertheless.

    Modules in the working directory are found first and sent along. Without --broker and
    MANYHANDS_BROKER a cluster on this machine does the work and ends with it.
    """
    from manyhands.cli import _job, _target  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._progress import progress  # noqa: PLC0415

    function = _target.load(target)
    resume = old == "resume"
    if resume and sink.name == "-":
        raise click.UsageError("--resume needs --output FILE", click.get_current_context())
    calls = list(_lines.read_calls(source, star=star))
    items = list(range(len(calls)))
    _lines.check_output(sink, source, may_hold=old is not None)
    whole = 0
    if resume:
        done, whole = _lines.read_output(Path(sink.name), len(calls))
        _output.note(f"{len(done)} of {len(calls)} items are done")
        items = [item for item in items if item not in done]
        calls = [calls[item] for item in items]
    if not calls:
        if resume:
            _lines.appended(Path(sink.name), whole).close()  # without a line that was torn off
        _output.note("no items, nothing to do")
        return
    started = time.monotonic()
    failed = 0
    refused: dict[int, BaseException] = {}
    with (
        _job.time_limit(timeout),
        _job.submitted(
            function, calls, name=name or target, slots=slots, refused=refused, **options
        ) as job,
        progress(len(calls)) as advance,
    ):
        # Not before the broker has answered: without it, what is there stays as it is.
        if resume:
            appended = _lines.appended(Path(sink.name), whole)
            sink = click.get_current_context().with_resource(appended)
        else:
            sink.write("")
        for place, error in refused.items():
            failed += 1
            _lines.write_line(sink, {"index": items[place], **_job.entry(error)})
            advance(1)
        items = [item for place, item in enumerate(items) if place not in refused]
        for index, value in job:
            failed += isinstance(value, BaseException)
            _lines.write_line(sink, {"index": items[index], **_job.entry(value)})
            advance(1)
    seconds = time.monotonic() - started
    rate = len(calls) / seconds
    _output.note(f"{len(calls)} items in {seconds:.1f} s, {rate:,.0f} a second, {failed} failed")
    if failed:
        raise JobFailed(f'{failed} of {len(calls)} items failed; their lines have an "error"')
