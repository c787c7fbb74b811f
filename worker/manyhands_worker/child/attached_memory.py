"""Shared memory that a task attaches belongs to those who made it.

Up to Python 3.12 multiprocessing notes a `SharedMemory` with its resource tracker when it is attached,
not only when it is made. The tracker of a node would remove the script's memory when the node ends.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

_KIND = "shared_memory"
_HAS_TRACK = sys.version_info >= (3, 13)


def leave_attached_memory_alone() -> None:
    """From now on, do not track a `SharedMemory` that is attached in this process."""
    note, attach, remove = resource_tracker.register, SharedMemory.__init__, SharedMemory.unlink
    attaching = threading.local()

    def register(name: Any, kind: str) -> None:
        if not getattr(attaching, "now", False):
            note(name, kind)

    def __init__(  # noqa: N807 - it takes the place of one
        self: Any, name: Any = None, create: bool = False, *rest: Any, **more: Any
    ) -> None:
        self._is_attached = not create
        if create:
            attach(self, name, create, *rest, **more)
            return
        if _HAS_TRACK:
            more.setdefault("track", False)
        attaching.now = True
        try:
            attach(self, name, create, *rest, **more)
        finally:
            attaching.now = False

    def unlink(self: Any) -> None:
        if self._is_attached:
            # The tracker has never heard of it, or has it from those who made it. It complains of a
            # name that it does not know, and takes one twice.
            note(self._name, _KIND)
            self._track = True
        remove(self)

    resource_tracker.register = register  # type: ignore[assignment]
    SharedMemory.__init__ = __init__  # type: ignore[method-assign]
    SharedMemory.unlink = unlink  # type: ignore[method-assign]
