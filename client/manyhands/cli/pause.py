"""`manyhands pause`: hold a job back."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="pause", examples=(("", "manyhands pause 4f0c"),))
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@client_options("pause")
def command(*, jobs: tuple[str, ...], **connection: Any) -> None:
    """Hold jobs back: start no more of their tasks until `manyhands resume`; what runs goes on."""
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        for job in [client.job(_named.find(client, text)["id"]) for text in jobs]:
            job.pause()
            _output.say(f"{job.id} paused")
