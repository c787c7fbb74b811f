"""Keeps a node's key from its tasks, which run as the node's own user.

The node's memory and descriptors are closed to other processes of that user (`shield`). The file is
hidden from the fork server, and so from every child (`hide`), in one of two ways of Linux:

- With the right to mount (root), the fork server has mounts of its own, with an empty file over the key.
- A directory of the root that has nothing but keys, as in a container, is kept back by Landlock.

Landlock also keeps children from undoing mounts, and from looking into earlier processes. Where there is
neither way, tasks can read the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("manyhands.worker")

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_CAP_SYS_ADMIN = 21
#: The same numbers on every architecture but one that Python does not know.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _REFER = 1 << 2, 1 << 13
#: From this version on files can be moved between directories all the same.
_LANDLOCK = 2
#: How files are called that are keys or belong to them.
_KEYS = (".key", ".allowed")


def guard(path: str) -> None:
    """Keep other processes of this user, as tasks are, from this one's memory; say what remains."""
    shield()
    if not path.startswith("/proc/") and not can_hide(path):
        log.info("tasks of this node can read its key %s; see docs/security.md on node keys", path)


def shield() -> None:
    """Close this process's memory and descriptors to other processes of its user (Linux)."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def let_go(path: str) -> None:
    """Close the descriptor that a key was read from, if its path is one's of this process."""
    descriptor = path.removeprefix("/proc/self/fd/")
    if descriptor != path:
        os.close(int(descriptor))


def can_hide(path: str) -> bool:
    """Whether `hide` will do. What has no name need not be hidden."""
    return _landlock_version() >= _LANDLOCK and (_may_mount() or _is_apart(path))


def hide(path: str) -> bool:
    """Keep a file from this process and all that it starts; return whether that could be done."""
    if not can_hide(path):
        return False
    try:
        if _may_mount():
            _cover(path)
            _allow(["/"])
        else:
            own = Path(os.path.realpath(path)).parent
            _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _allow(place for place in Path("/").iterdir() if place != own)
    except OSError:
        return False
    return True


def _is_apart(path: str) -> bool:
    """Whether a file is in a directory of the root that has nothing but keys, so tasks can miss it."""
    own = Path(os.path.realpath(path)).parent
    if own.parent != Path("/") or own == Path("/"):
        return False
    try:
        return all(place.suffix in _KEYS for place in own.iterdir() if place.is_file())
    except OSError:
        return False


def _may_mount() -> bool:
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return False
    [rights] = [line.split()[1] for line in status.splitlines() if line.startswith(b"CapEff:")]
    return bool(int(rights, 16) >> _CAP_SYS_ADMIN & 1)


def _cover(path: str) -> None:
    """Lay an empty file over one, for this process and what it starts."""
    libc = _libc()
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None))
    place = os.fsencode(os.path.realpath(path))
    _check(libc.mount(b"/dev/null", place, None, _MS_BIND, None))


def _allow(places: Iterable[str | Path]) -> None:
    """Let this process, and what it starts, read files below these places alone."""
    libc = _libc()
    handled = struct.pack("=Q", _READ_FILE | _REFER)
    ruleset = _check(libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
    try:
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                _add_rule(ruleset, place)
        _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _add_rule(ruleset: int, place: str | Path) -> None:
    found = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(found).st_mode
        if stat.S_ISLNK(mode):
            return  # what it leads to has a rule
        rights = _READ_FILE | _REFER if stat.S_ISDIR(mode) else _READ_FILE
        rule = struct.pack("=Qi", rights, found)
        _check(_libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(found)


def _landlock_version() -> int:
    """Of the kernel's; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
