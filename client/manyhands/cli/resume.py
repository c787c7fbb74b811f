"""`manyhands resume`: go on with a paused job."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="resume", examples=(("", "manyhands resume 4f0c"),))
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@client_options("resume")
def command(*, jobs: tuple[str, ...], **connection: Any) -> None:
    """Go on with jobs that were paused."""
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        for job in [client.job(_named.find(client, text)["id"]) for text in jobs]:
            job.resume()
            _output.say(f"{job.id} resumed")
