"""Processes that multiprocessing starts for us: what they are told of the process that starts them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import process, spawn, util
from typing import Any

from manyhands_shared.processes import script_arguments
from manyhands_shared.processes.interpreter import interpreter_options


@contextlib.contextmanager
def bare_start(directory: str = "", search: Sequence[str] | None = None) -> Iterator[None]:
    """Have multiprocessing start a process in this context without a main module.

    It would have each child import its parent's main module, which is a command of ours.

    Args:
        directory: where the process works. Empty: it inherits that, also a directory that was removed
            and cannot be entered by its name.
        search: its `sys.path`; None: as it is here.
    """
    preparation, options = spawn.get_preparation_data, util._args_from_interpreter_flags  # type: ignore[attr-defined]
    spawn.get_preparation_data = partial(_preparation, directory, search)
    util._args_from_interpreter_flags = interpreter_options  # type: ignore[attr-defined]
    try:
        yield
    finally:
        spawn.get_preparation_data = preparation
        util._args_from_interpreter_flags = options  # type: ignore[attr-defined]


def _preparation(directory: str, search: Sequence[str] | None, name: str) -> dict[str, Any]:
    """Return what multiprocessing tells a child of its parent."""
    original: str | None = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    path = [entry or original for entry in (sys.path if search is None else search)]
    argv = script_arguments.argv
    return {
        **({} if argv is None else {"sys_argv": argv}),
        "name": name,
        "authkey": process.current_process().authkey,
        "sys_path": [entry for entry in path if entry is not None],
        "orig_dir": original,
        **({"dir": directory} if directory else {}),
    }
