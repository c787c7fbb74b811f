"""The descriptors that the broker may have, and those that it keeps for itself.

ZeroMQ accepts connections in a thread of its own, as long as there are descriptors. So the broker runs
with a limit somewhat below the one that it may have. It lifts the limit for a moment to read the
allow-list, to open a file of a payload, or to start a process.

In that moment a connection may take one. The port of connections shuts it as soon as it hears of it. It
hears of nothing while its thread writes to a slow disk, so `opened` has it look.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Kept for the broker itself.
RESERVE = 64
#: ZeroMQ closes a connection this long after it was shut; and how often that is waited for.
_CLOSE_SECONDS, _MAX_LOOKS = 0.002, 100
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


class _Watch(threading.local):
    """Has connections looked at that this thread watches."""

    look: Callable[[], object] | None = None


_watch = _Watch()


def watched_by(look: Callable[[], object] | None) -> None:
    """From now on, `look` shuts the connections that have taken of the reserve, for this thread."""
    _watch.look = look


def opened(make: Callable[[], T]) -> T:
    """Open a descriptor, as `make` does, with one of the reserve if there is no other.

    Raises:
        OSError: it cannot be opened; if the reserve stays in use, after 0.2 s.
    """
    for _ in range(_MAX_LOOKS):
        try:
            with reserve():
                return make()
        except OSError as error:
            if error.errno != errno.EMFILE or _watch.look is None:
                raise
        _watch.look()
        time.sleep(_CLOSE_SECONDS)
    with reserve():
        return make()


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
