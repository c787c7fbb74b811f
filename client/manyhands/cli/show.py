"""`manyhands show`: all about one job."""

from __future__ import annotations

import time
from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb

_COLUMNS = (
    *("id", "name", "function", "state", "tasks", "queued", "active", "done", "failed"),
    *("cancelled", "priority", "durable", "seconds", "session"),
)


@click.command(
    cls=Verb,
    name="show",
    examples=(
        ("the beginning of the id will do", "manyhands show 4f0c"),
        ("for a program", "manyhands show 4f0c --json | jq .job.state"),
    ),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@client_options("show")
@json_option
def command(*, job: str, json: bool, **connection: Any) -> None:
    """Show what the broker knows of a job: its tasks, options, how it went, what failed and why."""
    from manyhands.cli import _connect, _history, _named  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        info = _named.find(client, job)
        history = client.query("history", id=info["id"])
    if json:
        _output.document(job=info, history=history)
        return
    rows = [(column, info.get(column)) for column in _COLUMNS]
    rows += [(column, info[column]) for column in ("copies", "speculated") if info.get(column)]
    for column in ("submitted", "ended"):
        if column in info:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info[column]))
            rows.append((column, when))
    rows += _history.rows(history)
    options = {key: value for key, value in info.get("options", {}).items() if key != "name"}
    rows += [(f"option {key}", value) for key, value in options.items()]
    rows += [("crash", line) for line in info.get("story", ())]
    _output.table(["what", "value"], [(what, _text(value)) for what, value in rows])
    _history.print_details(history)


def _text(value: object) -> object:
    return value if not isinstance(value, bool) else "yes" if value else "no"
