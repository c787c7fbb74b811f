"""`manyhands map`: a function over the lines of a file."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from typing import IO, Any

import click

from manyhands.cli import _completing, _lines, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._fingerprint import CODE
from manyhands.cli._job_options import job_options, split
from manyhands.cli._lines import Item
from manyhands.cli._map_output import Output
from manyhands.cli._options import client_options, nan_option, output_option, summary_option
from manyhands.cli._read_options import read_options, reading
from manyhands.cli._reader import LineReader
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount


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
@click.argument("target", metavar="MODULE:FUNCTION", shell_complete=_completing.targets)
@click.option(
    "--input",
    "source",
    metavar="FILE",
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
    "--resume-changed",
    "old",
    flag_value="resume-changed",
    help="The same, though the function's code has changed; results that are there stay.",
)
@click.option(
    "--overwrite",
    "old",
    flag_value="overwrite",
    help="Replace what --output holds, once the broker has answered.",
)
@read_options
@click.option(
    "--slots",
    type=click.IntRange(1, 4_096),
    help="Slots of the cluster that this command starts; one for each core if not given.",
)
@job_options
@client_options("map")
@nan_option
@summary_option
def command(
    *,
    target: str,
    source: str,
    sink: IO[str],
    old: str | None,
    slots: int | None,
    name: str,
    timeout: float | None,
    json: bool,
    **options: Any,
) -> None:
    """Run a function over every line of a file, in parallel, and write a line for each result.

    An item starts when its line is there: the input may be a pipe that goes on for ever. The command
    writes results as they come: {"index": 0, "result": ...}. NumPy arrays become nested arrays. A
    failed item has "error": {"type": ..., "message": ..., "traceback": ...}. So has one with a result
    that JSON has no words for, and "repr" beside it. JSON has no NaN either: see --allow-nan. An item
    that has NaN or an infinity itself may have one as its result. The index counts the items from 0,
    blank lines left out. Exit code 1 says that some items failed; the others' results are there
    nevertheless.

    Beside --output FILE the command writes FILE.run. By it --resume tells whether FILE is of this
    function, its code, --star, --lines, --arg, --safe and this input. Other options may change.

    Modules in the working directory are found first and sent along. Without --broker and
    MANYHANDS_BROKER a cluster on this machine does the work and ends with it.
    """
    from manyhands.cli import _connect, _job, _target  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._progress import progress  # noqa: PLC0415
    from manyhands.cli._stream import Stream  # noqa: PLC0415

    _lines.check_summary(sink, json=json)
    reads, allow_nan = reading(options), options.pop("allow_nan")
    function = _target.load(target)
    chosen, connection = split(options)
    sent, arguments_of = _job.bound(function, by_name=reads.star, safe=bool(chosen.get("safe")))
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(LineReader(source))
        what = {"function": target, CODE: _target.code_digest(function), "safe": chosen["safe"]}
        output = Output(sink, old, {**what, **dataclasses.asdict(reads)})
        output.check(source)
        batches = _lines.read_items(reader, reads)
        # What there is at once is read before any work: a wrong line is told of then.
        first: list[Item] = next(filter(None, batches), [])
        if not first or output.is_whole(source, reads):
            _output.note("no items, nothing to do")
            if json:
                _output.document(items=0, failed=0, seconds=0.0)
            return
        started = time.monotonic()
        stack.enter_context(_job.ended_by_signals())
        stack.enter_context(_job.time_limit(timeout))
        client = stack.enter_context(_connect.client(embed=True, slots=slots, **connection))
        stream = Stream(
            client,
            sent,
            output.left(itertools.chain(first, itertools.chain.from_iterable(batches))),
            lambda item: arguments_of(item.call),
            stop=reader.stop,
            name=name or target,
            **chosen,
        )
        advance = stack.enter_context(progress(None))
        # Not before the broker has answered: without it, what is there stays as it is.
        stack.enter_context(output)
        count = failed = first_failed = 0
        why = ""
        for item, value in stream:
            entry = _job.entry(value, allow_nan=allow_nan)
            if "repr" in entry and reads.has_nan(item.line):
                entry = _job.entry(value, allow_nan=True)
            count += 1
            if "error" in entry:
                failed += 1
                if failed == 1:
                    first_failed, why = item.index, _job.in_short(entry["error"])
            output.write({"index": item.index, **entry})
            stream.done()
            advance(1)
    seconds = time.monotonic() - started
    rate = count / seconds
    if json:
        _output.document(items=count, failed=failed, seconds=seconds)
    else:
        _output.note(
            f"{amount(count, 'item')} in {seconds:.1f} s, {rate:,.0f} a second, {failed} failed"
        )
    if failed:
        raise JobFailed(
            f"{failed:,} of {amount(count, 'item')} failed, item {first_failed} first: {why}; "
            'their lines have an "error"'
        )
