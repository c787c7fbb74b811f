"""How another interpreter is started so that code means there what it means here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

#: Of `-X`, what multiprocessing does not hand on.
_MORE_OPTIONS = (
    "int_max_str_digits",
    "no_debug_ranges",
    "pycache_prefix",
    "warn_default_encoding",
    "context_aware_warnings",
    "thread_inherit_context",
    "gil",
)


def interpreter_options() -> list[str]:
    """Return the options of this interpreter that change what code means."""
    # There is no public name for it. multiprocessing and test runners use it too.
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    given: dict[str, Any] = getattr(sys, "_xoptions", {})
    for name in _MORE_OPTIONS:
        if name in given and not any(text.partition("=")[0] == name for text in options):
            value = given[name]
            options += ["-X", name if value is True else f"{name}={value}"]
    return options


def run_module(
    module: str, path: Iterable[Any], directory: str | None, arguments: Iterable[Any]
) -> str:
    """Return the program that runs a module of ours with a given `sys.path`, for tasks of a script.

    Args:
        module: its name.
        path: the script's `sys.path`.
        directory: what an empty entry in it means.
        arguments: the script's `sys.argv`.

    The environment is no way to hand the path on. Programs that the module's tasks start would read it
    too, and it has no means to write a colon.
    """
    # Python passes over what is no text. An empty entry is the directory that was current here.
    entries = [entry or directory for entry in path if isinstance(entry, str)]
    texts = ascii([entry for entry in entries if entry is not None])
    argv = ascii([argument for argument in arguments if isinstance(argument, str)])
    return (
        f"import sys; sys.path[:] = {texts}; from manyhands_shared.processes import script_arguments; "
        f"script_arguments.argv = {argv}; from {module} import main; sys.exit(main())"
    )
