"""The directories that a node needs to start processes, made good when they have been removed.

A node runs for weeks. Meanwhile its working directory may be deleted. A cleaner of old files may
take its temporary one, with the socket of the fork server in it. Without that one no process starts,
and in a directory that was removed no task finds a file by a relative name.
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


class _Moved:
    """The directory that the node went to; empty while it is where it was started."""

    to = ""


def directory() -> str:
    """Where children are to work; empty: where the fork server does, which is what they inherit."""
    return _Moved.to


def leave_removed_directory() -> list[str]:
    """Leave a working directory that was removed; returns what is in its place, for people.

    A node that was started in a directory that is no more stays there, as a script would.
    """
    try:
        Path.cwd()
    except OSError:
        if _started_in() is not None:
            return [f"its working directory was removed; going on in {_move()}"]
    return []


def mend() -> list[str]:
    """Replace what is gone; returns what that was and what is in its place, for people."""
    told = leave_removed_directory()
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
    """Go where the directory was, if it is there again, or elsewhere; returns where that is."""
    for place in (_started_in() or "", _temporary(), "/"):
        with contextlib.suppress(OSError):
            os.chdir(place)
            _Moved.to = place
            return place
    return "no directory"


def _started_in() -> str | None:
    """The directory of this process as it began; None if there was none."""
    place: str | None = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    return place


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
