"""The `manyhands` command.

There is one module for each verb, imported when the verb is called. `_app` is the table of verbs.
`_options` makes flags of the dataclasses in `manyhands_shared.config`. `_output` chooses the stream for
each text. `_errors` turns what goes wrong into one line and an exit code.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `manyhands` script."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from manyhands.cli._closed_streams import replace_closed  # noqa: PLC0415 - seldom needed

        replace_closed()
    try:
        from manyhands.cli._app import run  # noqa: PLC0415 - may be missing, see below
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(
            f"error: the command needs {error.name}, which a plain client does not; "
            "run: pip install 'manyhands[command]'"
        )
    sys.exit(run(sys.argv[1:]))
