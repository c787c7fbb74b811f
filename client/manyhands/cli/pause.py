"""`manyhands pause`: hold a job back."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="pause", examples=(("", "manyhands pause 4f0c"),))
@click.argument(
    "jobs", nargs=-1, required=True, metavar="JOB...", type=NAMED, shell_complete=_completing.jobs
)
@client_options("pause")
@json_option
def command(*, jobs: tuple[str, ...], json: bool, **connection: Any) -> None:
    """Hold jobs back: start no more of their tasks until `manyhands resume`; what runs goes on."""
    from manyhands.cli import _named  # noqa: PLC0415 - so that --help is quick

    _named.order("pause", "paused", jobs, json=json, **connection)
