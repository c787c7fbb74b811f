"""`manyhands export`: how a job went, as a file for another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manyhands.cli import _completing, _output, _user_files
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._user_files import FILE
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount


@click.command(
    cls=Verb,
    name="export",
    examples=(
        ("open it at https://ui.perfetto.dev", "manyhands export 4f0c --chrome-trace job.json"),
    ),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@click.option(
    "--chrome-trace",
    "trace",
    required=True,
    type=FILE,
    help="The file to write: a trace for Perfetto and chrome://tracing, one row a slot.",
)
@client_options("export")
@json_option
def command(*, job: str, trace: Path, json: bool, **connection: Any) -> None:
    """Write when the tasks of a job ran, and where, as a trace that browsers show.

    The broker keeps a sample of a large job; the file says of how many tasks it is.
    """
    from manyhands.cli import _chrome_trace, _connect, _named  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._errors import JobFailed  # noqa: PLC0415 - as said above

    _user_files.check_writable(trace)
    with _connect.client(**connection) as client:
        info = _named.find(client, job)
        history = client.query("history", id=info["id"])
    if not history or not history["runs"]:
        raise JobFailed(
            f"the broker has no times of job {info['id']}. It keeps those of the latest jobs that have "
            "several tasks"
        )
    document = _chrome_trace.of_job(info, history)
    trace.write_text(_output.to_json(document), encoding="utf-8")
    if json:
        _output.document(job=info["id"], file=str(trace), runs=len(history["runs"]))
        return
    _output.note(
        f"wrote {trace}: {amount(len(history['runs']), 'run')}; open it at https://ui.perfetto.dev"
    )
