"""`manyhands results`: what the tasks of a job came to."""

from __future__ import annotations

from typing import IO, Any

import click

from manyhands.cli import _completing, _lines, _output
from manyhands.cli._duration import TIME_LIMIT
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import NAMED, client_options, nan_option, output_option, summary_option
from manyhands.cli._verb import Verb
from manyhands_shared.errors import ResultWithheld
from manyhands_shared.text import amount


@click.command(
    cls=Verb,
    name="results",
    examples=(
        ("", "manyhands results 4f0c --output results.jsonl"),
        ("in the order of the tasks", "manyhands results 4f0c | jq -s 'sort_by(.index)[].result'"),
    ),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@output_option
@click.option("--overwrite", is_flag=True, help="Replace what --output holds.")
@click.option(
    "--timeout",
    type=TIME_LIMIT,
    help="Take no more after this time, with exit code 124; the job goes on.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Load every result of another key's job; that runs code of the job's owner here.",
)
@client_options("results")
@nan_option
@summary_option
def command(
    *,
    job: str,
    sink: IO[str],
    overwrite: bool,
    timeout: float | None,
    trust: bool,
    allow_nan: bool,
    json: bool,
    **connection: Any,
) -> None:
    """Write the results of a durable job as JSON lines, as `manyhands map` does.

    Those that it has come first, the others as they come: the command ends with the job. Exit code 1
    says that some tasks failed.

    An admin's key reads the jobs of every key. Of another key's job the results are loaded that are
    numbers, text, bytes or collections of them; others are withheld unless --trust is given.
    """
    from manyhands.cli import _job, _named, _target  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._progress import progress  # noqa: PLC0415

    _lines.check_summary(sink, json=json)
    _target.find_modules_here()
    _lines.check_output(sink, None, may_hold=overwrite, words="replace it by --overwrite")
    failed = withheld = first_failed = 0
    why = ""
    with (
        _job.time_limit(timeout, "not every result came within {:g} s; the job goes on"),
        _named.durable_job(job, trust=trust, patient=True, **connection) as found,
        progress(found.tasks) as advance,
    ):
        sink.write("")
        for index, value in found:
            withheld += isinstance(value, ResultWithheld)
            entry = _job.entry(value, allow_nan=allow_nan)
            if "error" in entry:
                failed += 1
                if failed == 1:
                    first_failed, why = index, _job.in_short(entry["error"])
            _lines.write_line(sink, {"index": index, **entry})
            advance(1)
    if json:
        _output.document(job=found.id, tasks=found.tasks, failed=failed)
    if withheld:
        raise JobFailed(
            f"{withheld} of {amount(found.tasks, 'result')} were not loaded: that would run code of "
            "another key's owner here; if you trust them, say --trust"
        )
    if failed:
        raise JobFailed(
            f"{failed} of {amount(found.tasks, 'task')} failed, task {first_failed} first: {why}; "
            'their lines have an "error"'
        )
