"""`manyhands version`: what is installed here."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from manyhands.cli import _output
from manyhands.cli._options import json_option
from manyhands.cli._verb import Verb
from manyhands_shared import __version__
from manyhands_shared.protocol.messages import PROTOCOL_VERSION

#: What must fit between hosts, or explains a difference between them.
_PACKAGES = ("cloudpickle", "msgpack", "numpy", "pyzmq")


@click.command(
    cls=Verb, name="version", examples=(("for a bug report", "manyhands version --json"),)
)
@json_option
def command(*, json: bool) -> None:
    """Show the versions of manyhands, its protocol, Python and the packages that matter."""
    packages = {name: _installed(name) for name in _PACKAGES}
    python = platform.python_version()
    if json:
        _output.document(
            manyhands=__version__, protocol=PROTOCOL_VERSION, python=python, packages=packages
        )
        return
    rows = [("manyhands", __version__), ("protocol", PROTOCOL_VERSION), ("python", python)]
    _output.table(["what", "version"], [*rows, *packages.items()])


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
