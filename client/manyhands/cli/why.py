"""`manyhands why`: what a job waits for."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb


@click.command(cls=Verb, name="why", examples=(("", "manyhands why 4f0c"),))
@click.argument("job", metavar="JOB")
@client_options("why")
@json_option
def command(*, job: str, json: bool, **connection: Any) -> None:
    """Say why tasks of a job wait: no free slot, no node with its resources, paused, and so on."""
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        info = _named.find(client, job)
        over = info["state"] in _named.ENDED
        reasons = [f"it is over: {info['state']}"] if over else client.job(info["id"]).why()
    if json:
        _output.document(job=info["id"], reasons=reasons)
        return
    for reason in reasons or ["none of its tasks wait"]:
        _output.say(reason)
