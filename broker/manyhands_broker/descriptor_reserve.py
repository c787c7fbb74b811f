"""The descriptors that the broker may have, and those that it keeps for itself.

ZeroMQ accepts connections in a thread of its own, as long as there are descriptors. So the broker runs
with a limit somewhat below the one that it may have. It lifts the limit for a moment where it needs a
descriptor itself: to read the allow-list, to write a payload, to start a process.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator

#: Kept for the broker itself. While the limit is lifted a few of them may go to connections.
RESERVE = 64
#: More than the limit of any system by default, and few enough to count.
_MOST = 65_536


def set_aside() -> int:
    """Raise this process's limit as far as it may be, less the reserve. Return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    limit = max(most - RESERVE, most // 2)
    return limit if _set(limit, hard) else soft


class _Lift:
    """How many are in need of the reserve at this moment, of all threads."""

    lock = threading.Lock()
    users = 0
    lifted = False
    usual = 0


@contextlib.contextmanager
def reserve() -> Iterator[None]:
    """Let this process open descriptors of the reserve."""
    with _Lift.lock:
        _Lift.users += 1
        if _Lift.users == 1:
            _Lift.usual, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            _Lift.lifted = _Lift.usual != hard and _set(hard, hard)
    try:
        yield
    finally:
        with _Lift.lock:
            _Lift.users -= 1
            if not _Lift.users and _Lift.lifted:
                _set(_Lift.usual, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _set(soft: int, hard: int) -> bool:
    """Set the limit; false if the system refuses."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (ValueError, OSError):
        return False
    return True
