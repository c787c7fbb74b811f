"""`manyhands keys`: make and show the key of a cluster."""

from __future__ import annotations

import stat
from pathlib import Path

import click

from manyhands.cli import _output
from manyhands.cli._options import json_option
from manyhands.cli._verb import Verb
from manyhands_shared.keys import ROLES, ClusterKey

_FILE = click.argument(
    "file", envvar="MANYHANDS_KEY_FILE", type=click.Path(dir_okay=False, path_type=Path)
)


@click.group(name="keys")
def command() -> None:
    """Make and show the key of a cluster.

    Whoever has the key file can run code on every node, and nobody else can connect. Broker, nodes
    and clients take it as --key-file or MANYHANDS_KEY_FILE.
    """


@command.command(
    cls=Verb,
    name="new",
    examples=(("then copy it to every host", "manyhands keys new cluster.key"),),
)
@_FILE
def new(file: Path) -> None:
    """Make a key file that only you can read.

    An existing file is never overwritten.
    """
    ClusterKey.new().save(file)
    _output.note(f"a new key is in {file}; copy it to every host, and let nobody else read it")


@command.command(
    cls=Verb,
    name="show",
    examples=(("is it the same on two hosts?", "manyhands keys show cluster.key"),),
)
@_FILE
@json_option
def show(file: Path, *, json: bool) -> None:
    """Show the public keys that belong to a key file.

    The secret is never printed.
    """
    key = ClusterKey.load(file)
    public = {role: key.pair(role).public.decode() for role in ROLES}
    if json:
        mode = f"{stat.S_IMODE(file.stat().st_mode):04o}"
        _output.document(file=str(file), mode=mode, public=public)
    else:
        _output.table(["role", "public key"], public.items())
