"""`manyhands broker`: a broker in the foreground."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli import _output, _service
from manyhands.cli import _settings as settings
from manyhands.cli._options import config_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.config import BrokerConfig
from manyhands_shared.logs import log_to_stderr
from manyhands_shared.processes.lifecycle import begin


@click.command(
    cls=Verb,
    name="broker",
    examples=(
        ("for this machine only, on port 7711", "manyhands broker"),
        (
            "for others too; that takes a key, which nodes and clients need as well",
            "manyhands broker --bind tcp://0.0.0.0:7711 --key-file cluster.key --create-key",
        ),
    ),
)
@config_options(BrokerConfig, "broker")
@_service.log_options
@json_option
def command(*, log_level: str, log_format: str, json: bool, **values: Any) -> int:
    """Run a broker in the foreground until SIGTERM or Ctrl-C.

    It listens on loopback unless --bind says otherwise. Times are in seconds, sizes in bytes. With
    --json it prints one document with its address once it can be reached.
    """
    begin()
    config = settings.validate(BrokerConfig, values)
    log_to_stderr("manyhands broker", log_level, as_command=True, as_json=log_format == "json")
    from manyhands_broker.server import run  # noqa: PLC0415 - after bad options were refused

    return run(config, ready=(lambda facts: _output.document(**facts)) if json else None)
