"""What a new process is told of the one that starts it: both ends."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgpack

from manyhands.multiprocessing import context
from manyhands.multiprocessing._processes import environment
from manyhands_shared import shm
from manyhands_shared.payloads.payload import Payload


def describe(
    secret: bytes, parent_pid: int, where: tuple[str, str], method: str | None = None
) -> bytes:
    """Return what a new process on any host is told; `method` is the start method that was chosen."""
    return _pack(
        {
            "secret": secret,
            "where": where,
            "host": shm.host_id(),
            "parent_pid": parent_pid,
            "argv": [text for text in getattr(sys, "argv", ()) if isinstance(text, str)],
            "path": _path(),
            "directory": _directory(),
            "changes": environment.changes(),
            "logging": _log_level(),
            "method": method,
            "preload": context.preloaded(),
        }
    )


def describe_here() -> bytes:
    """Return what a new process on this host is told besides: the environment stays on this host."""
    return _pack(dict(os.environ))


def unpack(payload: Payload) -> dict[str, Any]:
    """Return what was packed by `describe`."""
    data = b"".join(payload) if isinstance(payload, tuple) else payload
    found: dict[str, Any] = msgpack.unpackb(data, unicode_errors="surrogateescape")
    return found


def adopt(told: dict[str, Any], here: Payload) -> None:
    """Make this process like the one that has started it.

    Args:
        told: what `describe` gave.
        here: what `describe_here` gave; empty on another host.
    """
    if here:
        os.environ.clear()
        os.environ.update(unpack(here))
    environment.adopt(told["changes"])
    sys.argv[:] = told["argv"]
    path = [entry for entry in told["path"] if Path(entry).exists()]
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
    if told["directory"]:
        try:
            os.chdir(told["directory"])
        except OSError:
            print(
                f"manyhands: there is no directory {told['directory']} on this host; "
                f"working in {_directory() or '/'}",
                file=sys.stderr,
            )
    _adopt_logging(told["logging"])
    if told["method"] is not None:
        context.set_start_method(told["method"], force=True)
    context.set_forkserver_preload(told["preload"])
    for name in told["preload"]:
        # The script itself is not imported anywhere.
        with contextlib.suppress(ImportError):
            import_module(name)


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def _path() -> list[str]:
    here = _directory()
    entries = [entry or here for entry in sys.path if isinstance(entry, str)]
    return [os.path.abspath(entry) for entry in entries if entry]  # noqa: PTH100 - as text


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - as text
    except OSError:
        return ""


def _log_level() -> list[Any]:
    """Return the level of multiprocessing's logger, and whether it goes to stderr."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None or util._logger is None:
        return [None, False]
    return [util._logger.getEffectiveLevel(), bool(util._log_to_stderr)]


def _adopt_logging(told: list[Any]) -> None:
    level, to_stderr = told
    if level is not None:
        from multiprocessing import util  # noqa: PLC0415 - for programs that log

        util.get_logger().setLevel(level)
        if to_stderr:
            util.log_to_stderr()
