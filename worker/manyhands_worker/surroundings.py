"""The directories that a node needs to start processes, made good when they have been removed.

A node runs for weeks. Meanwhile its working directory may be deleted, and a cleaner of old files may
take its temporary one, with the socket of the fork server in it. Without either no process starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from multiprocessing import process
from pathlib import Path
from typing import Any

#: Pipes of fork servers that cannot be reached any more: these end, with their children, when it closes.
_unreachable: list[int] = []


def mend() -> list[str]:
    """Replace what is gone; returns what that was and what is in its place, for people."""
    told = []
    try:
        Path.cwd()
    except OSError:
        told.append(f"its working directory was removed; going on in {_move()}")
    if _scratch_is_gone():
        _renew_scratch()
        told.append("its temporary directory was removed; making another")
    return told


def _temporary() -> str:
    """The directory for temporary files; empty if there is none."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return ""


def _move() -> str:
    for place in (_temporary(), "/"):
        with contextlib.suppress(OSError):
            os.chdir(place)
            return place
    return "no directory"


def _scratch_is_gone() -> bool:
    if not os.path.isdir(_temporary()):  # noqa: PTH112 - an empty path is no directory
        return True
    paths = [_settings().get("tempdir")]
    if sys.platform == "linux":
        paths.append(_fork_server()._forkserver_address)
    return any(path is not None and not os.path.lexists(path) for path in paths)


def _renew_scratch() -> None:
    _settings()["tempdir"] = None
    if not os.path.isdir(_temporary()):  # noqa: PTH112 - as above
        tempfile.tempdir = None  # it looks for another
    if sys.platform == "linux":
        server = _fork_server()
        with server._lock:
            if server._forkserver_alive_fd is not None:
                # Children of the old one are at work, and end with it: it is left as it is.
                _unreachable.append(server._forkserver_alive_fd)
            server._forkserver_address = None
            server._forkserver_alive_fd = None
            server._forkserver_pid = None


def _settings() -> Any:
    current: Any = process.current_process()
    return current._config


def _fork_server() -> Any:
    from multiprocessing import forkserver  # noqa: PLC0415 - Linux alone

    module: Any = forkserver
    return module._forkserver
