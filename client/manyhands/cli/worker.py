"""`manyhands worker`: a node in the foreground."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output, _service, _stdin
from manyhands.cli import _settings as settings
from manyhands.cli._options import config_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.config import WorkerConfig
from manyhands_shared.logs import log_to_stderr
from manyhands_shared.processes.lifecycle import begin


@click.command(
    cls=Verb,
    name="worker",
    examples=(
        ("for the broker on this machine, one slot for each core", "manyhands worker"),
        (
            "for a broker elsewhere",
            "manyhands worker --broker tcp://HOST:7711 --key-file cluster.key --slots 4",
        ),
    ),
)
@config_options(WorkerConfig, "worker")
@click.option("--stay-with-stdin", is_flag=True, help="Leave at once when the standard input ends.")
@_service.log_options
@json_option
def command(
    *, log_level: str, log_format: str, stay_with_stdin: bool, json: bool, **values: Any
) -> int:
    """Run a node in the foreground: a pool of processes that works for a broker.

    SIGTERM or Ctrl-C drains it: nothing new is taken, what runs is finished, the rest is given back.
    A second one ends it at once. It reconnects for ever. Times are in seconds, sizes in bytes. With
    --key-file - the key comes over the standard input, up to an empty line or the end. With --json it
    prints one document with its name once the broker has taken it in.
    """
    begin()
    if values["key_file"] == "-":
        values["key_file"] = _stdin.key_file()
    config = settings.validate(WorkerConfig, values)
    log_to_stderr("manyhands worker", log_level, as_command=True, as_json=log_format == "json")
    from manyhands_worker.node import run  # noqa: PLC0415 - after bad options were refused

    return run(
        config,
        lifeline=_stdin.STDIN if stay_with_stdin else None,
        ready=(lambda facts: _output.document(**facts)) if json else None,
    )
