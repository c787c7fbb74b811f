"""How many descriptors this process may have, and whether they run short."""

from __future__ import annotations

import errno
import os
import resource

#: What the system says when it has none for this process, or for any.
NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
#: More than any part needs; some programs take seconds to go through a limit of millions.
_ENOUGH = 1 << 16


def raise_limit() -> int:
    """Let this process have as many as the system allows it, within reason.

    Returns how many it could have before, for those that it starts; 0 if nothing has changed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return 0
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return 0
    return soft


def limit(count: int) -> None:
    """Let this process, and what it starts, have `count` again; 0: as it is."""
    if count:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def scarce(fd: int) -> bool:
    """Whether a new descriptor shows that less than a quarter is left: it has the lowest free number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and fd >= soft - soft // 4


def running_short() -> bool:
    """Whether less than a quarter of the descriptors is left."""
    try:
        fd = os.dup(0)
    except OSError:
        return True
    os.close(fd)
    return scarce(fd)
