"""multiprocessing's resource tracker, which removes shared memory that its makers forget.

Processes of a forked pool share the script's tracker, if it runs when the pool is made. What a task
makes is then removed when the script ends, and what the script removes is forgotten for the task too.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def tracker_fd() -> int | None:
    """Return the descriptor by which this process's tracker is told; None where there is none."""
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    fd = None if module is None else getattr(module._resource_tracker, "_fd", None)
    return fd if isinstance(fd, int) and fd > 2 else None


def use_tracker(fd: int) -> None:
    """Tell the tracker behind an inherited descriptor what is made and removed here."""
    from multiprocessing import resource_tracker  # noqa: PLC0415 - a client has it or needs it not

    os.set_inheritable(fd, False)
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = fd
