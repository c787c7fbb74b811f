"""`manyhands backup`: a whole copy of the broker's journal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import client_options, json_option
from manyhands.cli._user_files import DIRECTORY
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount

#: Between two questions of how far it is.
_POLL_SECONDS = 0.1


@click.command(
    cls=Verb,
    name="backup",
    examples=(
        ("while the broker runs", "manyhands backup /backups/2026-11-26"),
        ("to go back to it", "manyhands broker --journal /backups/2026-11-26"),
    ),
)
@click.argument("directory", metavar="DIRECTORY", type=DIRECTORY)
@client_options("backup")
@json_option
def command(*, directory: Path, json: bool, **connection: Any) -> None:
    """Copy the broker's journal into a new directory, on the broker's host, while it is in use.

    What was accepted before the command ends is in the copy, which is a journal as it stands: give a
    copy of it to `manyhands broker --journal`. With keys it takes an admin's.
    """
    from manyhands.cli import _connect  # noqa: PLC0415 - so that --help is quick

    place = str(directory.absolute())
    pause = threading.Event()
    with _connect.client(**connection) as client:
        report = client.query("backup", directory=place, begin=True)
        while not report["done"]:
            pause.wait(_POLL_SECONDS)
            report = client.query("backup", directory=place, begin=False)
    if json:
        told = {name: report[name] for name in ("pages", "files", "damaged")}
        _output.document(directory=place, **told)
    else:
        _output.say(
            f"{place}: {amount(report['pages'], 'page')} and {amount(report['files'], 'payload file')}"
        )
        for line in report["damaged"]:
            _output.note(line)
    if report["damaged"]:
        raise JobFailed("some payloads were damaged already; all else is in the copy")
