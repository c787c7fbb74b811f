"""`manyhands why`: what a job or a process waits for."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="why",
    examples=(("", "manyhands why 4f0c"), ("a process of a program", "manyhands why Process-3")),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@client_options("why")
@json_option
def command(*, job: str, json: bool, **connection: Any) -> None:
    """Say why tasks of a job wait: no free slot, no node with its resources, paused, and so on.

    JOB may be a program or one of its processes instead, as `manyhands ps` lists them.
    """
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick
    from manyhands_shared.errors import Refused  # noqa: PLC0415 - as above

    with _connect.client(**connection) as client:
        if not client.query("jobs", begins=job):
            try:
                said = client.query("why_process", id=job)
            except Refused:
                said = None
            if said is not None:
                _show(job, said, json=json)
                return
        info = _named.find(client, job)
        over = info["state"] in _named.ENDED
        reasons = [f"it is over: {info['state']}"] if over else client.job(info["id"]).why()
    _show(info["id"], reasons or ["none of its tasks wait"], json=json)


def _show(what: str, reasons: list[str], *, json: bool) -> None:
    if json:
        _output.document(job=what, reasons=reasons)
        return
    for reason in reasons:
        _output.say(reason)
