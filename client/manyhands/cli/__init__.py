"""The `manyhands` command.

One module for each verb; a verb is imported when it is called. `_app` is the table of verbs,
`_options` makes flags of the dataclasses in `manyhands_shared.config`, `_output` knows what goes to
which stream, `_errors` turns whatever goes wrong into one line and an exit code.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `manyhands` script."""
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
