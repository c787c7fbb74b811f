"""`manyhands resume`: go on with a paused job."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="resume", examples=(("", "manyhands resume 4f0c"),))
@click.argument(
    "jobs", nargs=-1, required=True, metavar="JOB...", type=NAMED, shell_complete=_completing.jobs
)
@client_options("resume")
@json_option
def command(*, jobs: tuple[str, ...], json: bool, **connection: Any) -> None:
    """Go on with jobs that were paused."""
    from manyhands.cli import _named  # noqa: PLC0415 - so that --help is quick

    _named.order("resume", "resumed", jobs, json=json, **connection)
