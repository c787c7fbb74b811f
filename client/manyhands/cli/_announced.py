"""The cluster of `manyhands up`, as other commands of the same user find it without a word.

A file of the user's runtime directory has its address and the path of its key. The directory is
``$MANYHANDS_RUNTIME_DIR``, else one in ``$XDG_RUNTIME_DIR``, else one among the temporary files.
`manyhands up` holds a lock on the file while it runs. A file without that lock is of a cluster that is
gone. Files and directories of others are never read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from manyhands_shared.security.private_files import private

_FILE = "cluster.json"
_MAX_BYTES = 1 << 16


class Announced(NamedTuple):
    """What is known of the cluster: where its broker is, and the path of its key or nothing."""

    address: str
    key_file: str


@contextlib.contextmanager
def announced(address: str, key_file: str) -> Iterator[str]:
    """Have commands of this user find the cluster meanwhile.

    Yields:
        Why they do not find it, in a sentence; empty if they do.
    """
    try:
        file = _lock()
    except OSError as error:
        yield f"other commands do not find it by themselves: {error.filename}: {error.strerror}"
        return
    if file is None:
        found = find()
        yield (
            f"commands find the cluster that was there before, at {found.address}" if found else ""
        )
        return
    path, descriptor = file
    try:
        os.write(descriptor, json.dumps({"address": address, "key_file": key_file}).encode())
        yield ""
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def find() -> Announced | None:
    """Return the cluster that this user runs; `None` if there is none, or a stranger's file."""
    try:
        descriptor = os.open(_directory() / _FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        is_own = _is_own(_directory().lstat()) and _is_own(os.fstat(descriptor))
        if not is_own or not _is_locked(descriptor):
            return None
        found = json.loads(os.read(descriptor, _MAX_BYTES))
        return Announced(str(found["address"]), str(found["key_file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(descriptor)


def _lock() -> tuple[Path, int] | None:
    """Open the file, empty, and hold its lock; `None` if another process does.

    Raises:
        OSError: it cannot be made, or its directory is another user's.
    """
    directory = _directory()
    with private():
        directory.mkdir(parents=True, exist_ok=True)
        if not _is_own(directory.lstat()):
            raise PermissionError(0, "others can write there", str(directory))
        path = directory / _FILE
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(path, descriptor):
                    os.ftruncate(descriptor, 0)
                    return path, descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            # Its owner has removed it since it was opened.
            os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Whether a process holds the file: `manyhands up` does while its cluster runs."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the name stands for the file that was opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def _is_own(found: os.stat_result) -> bool:
    """Whether it is this user's, and only this user can write it; no link."""
    mode = found.st_mode
    is_plain = stat.S_ISDIR(mode) or stat.S_ISREG(mode)
    return is_plain and found.st_uid == os.getuid() and not mode & (stat.S_IWGRP | stat.S_IWOTH)


def _directory() -> Path:
    if own := os.environ.get("MANYHANDS_RUNTIME_DIR"):
        return Path(own)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "manyhands"
    return Path(tempfile.gettempdir()) / f"manyhands-{os.getuid()}"
