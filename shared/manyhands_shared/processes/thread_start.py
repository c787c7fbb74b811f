"""Threads that a process can do without, should the system give it none."""

from __future__ import annotations

import threading


def start(thread: threading.Thread) -> bool:
    """Start a thread; return false if the system gives none, as where `ulimit -u` is reached."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
