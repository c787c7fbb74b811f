"""`manyhands run`: one call, its result on stdout."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._arguments import VerbWithValues
from manyhands.cli._errors import JobFailed
from manyhands.cli._job_options import job_options, split
from manyhands.cli._options import client_options, json_option, nan_option


@click.command(
    cls=VerbWithValues,
    name="run",
    examples=(
        ("", "manyhands run math:factorial 20"),
        (
            "your own work.py, in this directory",
            "manyhands run work:simulate 1e-3 --kwarg steps=500",
        ),
        ("for a program", "manyhands run --json statistics:mean '[1, 2, 4]'"),
    ),
)
@click.argument("target", metavar="MODULE:FUNCTION", shell_complete=_completing.targets)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@click.option(
    "--kwarg", "kwargs", multiple=True, metavar="NAME=VALUE", help="A keyword argument; repeatable."
)
@job_options
@client_options("run")
@nan_option
@json_option
def command(
    *,
    target: str,
    arguments: tuple[str, ...],
    kwargs: tuple[str, ...],
    name: str,
    timeout: float | None,
    allow_nan: bool,
    json: bool,
    **options: Any,
) -> None:
    """Run one function on a cluster, wait, and print what it returns.

    Arguments are Python literals where they can be read as such (20, 1e-3, '[1, 2]', None), and
    text otherwise. The command prints the result as Python shows it, text as it is, None not at all.
    With --json it prints a document with "result" or "error". A result that JSON has no words for is
    an error there, with its "repr" beside it.

    Modules in the working directory are found first and sent along. Without --broker and
    MANYHANDS_BROKER a cluster on this machine does the work and ends with it.
    """
    from manyhands.cli import _connect, _job, _target  # noqa: PLC0415 - so that --help is quick

    function = _target.load(target)
    call = (tuple(map(_target.literal, arguments)), dict(map(_target.keyword, kwargs)))
    chosen, connection = split(options)
    sent, arguments_of = _job.bound(function, by_name=bool(kwargs), safe=bool(chosen.get("safe")))
    with (
        _job.ended_by_signals(),
        _job.time_limit(timeout),
        _connect.client(embed=True, slots=1, **connection) as client,
    ):
        job = client.submit_job(sent, [arguments_of(call)], name=name or target, **chosen)
        _, value = next(iter(job))
    failed = isinstance(value, BaseException)
    said = _job.entry(value, allow_nan=allow_nan) if json else {}
    if json:
        traceback = {"traceback": _job.traceback_of(value)} if failed else {}
        _output.document(job=job.id, **said, **traceback)
    elif failed:
        _output.note(_job.traceback_of(value).rstrip())
    else:
        _print(value)
    if failed:
        raise JobFailed(f"the task failed: {_job.describe(value)}")
    if "error" in said:
        raise JobFailed(said["error"]["message"])


def _print(value: object) -> None:
    if value is None:
        return
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001 - a user's class
        kind, problem = type(value).__name__, type(error).__name__
        raise JobFailed(
            f"the task succeeded, but its result cannot be shown: repr of {kind} raised {problem}"
        ) from None
    _output.raw(text)
