"""`manyhands stack`: what running tasks do just now."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="stack",
    examples=(
        ("a task, the running tasks of a job, all of a node", "manyhands stack 4f0c/17"),
        ("", "manyhands stack 4f0c"),
        ("", "manyhands stack node-7"),
    ),
)
@click.argument("target", metavar="JOB[/TASK]|NODE", type=NAMED, shell_complete=_completing.jobs)
@client_options("stack")
@json_option
def command(*, target: str, json: bool, **connection: Any) -> None:
    """Print the Python stacks of running tasks: all threads of their processes, the latest call first.

    It works within calls of C code that do not return, too, and needs nothing in your code. A signal
    asks the process, so a system call of C code may be interrupted. The tasks of a job take its owner's
    key or an admin's, those of a node an admin's.
    """
    from manyhands.cli import _connect, _stacks  # noqa: PLC0415 - so that --help is quick

    with _connect.client(**connection) as client:
        found = _stacks.of_target(client, target)
    if json:
        _output.document(stacks=found)
        return
    for place, one in enumerate(found):
        if place:
            _output.say("")
        _output.say(
            f"task {one['index']} of job {one['job']}, attempt {one['attempt']}, "
            f"on node {one['node']}, slot {one['slot']}, process {one['pid']}:"
        )
        _output.say(one["text"].rstrip("\n"))
