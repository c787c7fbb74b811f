"""Standard streams that the command was started without, as by `<&-` in a shell.

Python then has `None` for them, and their numbers go to the next files that are opened.
"""

from __future__ import annotations

import os
import sys

_STDIN, _STDOUT, _STDERR = range(3)


def replace_closed() -> None:
    """Open what takes their place: an empty input, an output without a reader, messages to nowhere."""
    if sys.stdin is None:
        _enter(os.open(os.devnull, os.O_RDONLY), _STDIN)
        sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115 - as Python has it
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        _enter(writer, _STDOUT)
        sys.stdout = open(_STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    if sys.stderr is None:
        _enter(os.open(os.devnull, os.O_WRONLY), _STDERR)
        sys.stderr = open(_STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above


def _enter(descriptor: int, number: int) -> None:
    """Give a file a stream's number, in place of what has it. What is started has it as well."""
    if descriptor == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)
