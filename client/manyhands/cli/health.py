"""`manyhands health`: a health check for containers and service managers."""

from __future__ import annotations

import socket
from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount


@click.command(
    cls=Verb,
    name="health",
    examples=(
        ("does the broker answer?", "manyhands health"),
        ("and is a node of this host ready?", "manyhands health --node"),
    ),
)
@click.option("--node", is_flag=True, help="Ask for a node of this host as well.")
@client_options("health")
@json_option
def command(*, node: bool, json: bool, **connection: Any) -> None:
    """Say whether the broker answers and takes work: exit code 0 if it does, another says why not.

    It agrees with what the broker says at /readyz, if it serves HTTP. A worker's key may ask nothing.
    With such a key --node says whether the broker admits it, and whether a node of this host has a link.
    """
    from manyhands.cli import _node_link  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._connect import client  # noqa: PLC0415 - as said above

    if node and _node_link.is_all(connection["key_file"]):
        _node_link.check(**connection)
        if json:
            _output.document(admitted=True, linked=True)
        else:
            _output.say("the broker admits this key, and a node of this host has a link to it")
        return
    host = socket.gethostname()
    with client(**connection) as connected:
        health = connected.query("health")
        nodes = connected.query("nodes")
    ready = sum(entry["state"] == "ready" for entry in nodes)
    here = [entry["name"] for entry in nodes if entry["host"] == host and entry["state"] == "ready"]
    if health["problems"]:
        raise JobFailed(f"the broker answers but takes no work: {'; '.join(health['problems'])}")
    if node and not here:
        raise JobFailed(f"no node of {host} is ready; see its log, or: manyhands nodes")
    if json:
        _output.document(nodes=len(nodes), ready=ready, here=here)
    else:
        _output.say(f"the broker answers; {amount(len(nodes), 'node')}, {ready} of them ready")
