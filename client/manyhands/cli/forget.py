"""`manyhands forget`: delete a job that is over."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="forget", examples=(("", "manyhands forget 4f0c"),))
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@client_options("forget")
def command(*, jobs: tuple[str, ...], **connection: Any) -> None:
    """Delete durable jobs that are over, with their results, before --keep-results does."""
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        for job in [client.job(_named.find(client, text)["id"]) for text in jobs]:
            job.forget()
            _output.say(f"{job.id} forgotten")
