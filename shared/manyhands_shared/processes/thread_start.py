"""Starting threads where the system may give none, as where `ulimit -u` is reached."""

from __future__ import annotations

import errno
import threading


def start(thread: threading.Thread) -> bool:
    """Start a thread that the caller can do without; return false if the system gives none."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def must_start(thread: threading.Thread) -> None:
    """Start a thread that the caller cannot do without.

    Raises:
        OSError: the system gives none.
    """
    if not start(thread):
        raise OSError(errno.EAGAIN, "the system gives no thread")
