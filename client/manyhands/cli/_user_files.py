"""Files that users name in options: one that cannot be used is one line, before any work if possible."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from manyhands_shared.errors import ConfigError

#: Errors of a device that takes no more of what is written to it.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE})


class PathType(click.Path):
    """The path of a file, or of a directory, as a `Path`. The empty name would be that of `.`."""

    def __init__(self, *, is_directory: bool = False) -> None:
        super().__init__(file_okay=not is_directory, dir_okay=is_directory, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a file without a name", param, ctx)
        return super().convert(value, param, ctx)


FILE, DIRECTORY = PathType(), PathType(is_directory=True)


def check_writable(path: Path) -> None:
    """See whether a file can be written later, without any change to what is there.

    Raises:
        ConfigError: it cannot.
    """
    if not _is_writable(path):
        raise ConfigError(f"cannot write to {shown(path)}; name another file for the output")


def _is_writable(path: Path) -> bool:
    """Whether there is such a file, or could be."""
    try:
        # As opening does it: `/dev/stdout` leads to a pipe, which has no name.
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return os.access(path.parent, os.W_OK)
    except OSError:
        # Its name is too long, or its links lead in a circle.
        return False
    return not is_folder and os.access(path, os.W_OK)


def check_sendable(path: str, option: str) -> None:
    """See whether there is a file or folder that `option` names. Others may have no end.

    Raises:
        ConfigError: there is none.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - "" is no name, and `Path` would make it one
    except OSError as error:
        raise ConfigError(f"{option} {shown(path)} cannot be read: {error.strerror}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ConfigError(f"{option} {shown(path)} is a pipe or a device; name a file or a folder")


def check_has_end(path: Path) -> None:
    """See whether a file, if there is one, can be read to its end: a device may have none.

    Raises:
        ConfigError: it cannot.
    """
    if path.exists() and not path.is_file() and not is_null(path.stat()):
        raise ConfigError(f"{shown(path)} is no file, so that a run cannot go on with it")


def is_null(status: os.stat_result) -> bool:
    """Whether this is `/dev/null`."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116


def make_folder(path: Path) -> None:
    """Make a folder in which files will be, if it is not there.

    Raises:
        ConfigError: it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {shown(path)}: {error.strerror}; name another folder"
        ) from None


def shown(path: str | Path) -> str:
    """A path as it stands in a message."""
    return f"{path!s:.200}" or "a file without a name"


def refuse_if_named(error: OSError, values: object) -> None:
    """Refuse a file that the user named and the system does not open.

    Args:
        error: what the system says.
        values: of the options and arguments of the verb.

    Raises:
        ConfigError: one of the values is that file, or a folder around it.
    """
    if not isinstance(error.filename, str | bytes):
        return
    place = Path(os.fsdecode(error.filename)).absolute()
    if any(place.is_relative_to(Path(name).absolute()) for name in _names(values)):
        raise ConfigError(
            f"cannot use {shown(os.fsdecode(error.filename))}: {error.strerror}; name another file"
        ) from None


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for one in value:
            yield from _names(one)
    elif isinstance(value, str | Path) and str(value):
        yield str(value)
