"""Processes that tasks fork."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from manyhands_worker.ipc.output_redirect import flush_streams


def end_fork(error: BaseException | None) -> NoReturn:
    """End a process that a task has forked, where a script's fork would have come to its end."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    flush_streams()
    os._exit(code & 0xFF)
