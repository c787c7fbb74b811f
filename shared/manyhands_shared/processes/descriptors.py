"""How many descriptors this process may have, and whether they run short."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

#: What the system says when it has none for this process, or for any.
NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
#: More than any part needs; some programs take seconds to go through a limit of millions.
_ENOUGH = 1 << 16


class _Limit:
    """The limit of this process before it was raised; 0: it never was."""

    before = 0


def raise_limit() -> None:
    """Let this process have as many as the system allows it, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            _Limit.before = soft


def usual() -> int:
    """How many this process could have at first, for those that it starts; 0: as many as now."""
    return _Limit.before


def limit(count: int) -> None:
    """Let this process, and what it starts, have `count` again; 0: as it is."""
    if count:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def close_on_exec() -> None:
    """Keep what this process has open, but for its standard streams, from programs that start here.

    Python does so by itself, but not for what a fork server hands on.
    """
    with os.scandir("/proc/self/fd") as entries:
        open_now = [int(entry.name) for entry in entries]
    for fd in open_now:
        if fd > 2:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.set_inheritable(fd, False)


def scarce(fd: int) -> bool:
    """Whether a new descriptor shows that less than a quarter is left: it has the lowest free number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and fd >= soft - soft // 4


def running_short() -> bool:
    """Whether less than a quarter of the descriptors is left."""
    try:
        fd = os.dup(0)
    except OSError as error:
        # Another one: the standard input is closed.
        return error.errno in NO_DESCRIPTOR
    os.close(fd)
    return scarce(fd)
