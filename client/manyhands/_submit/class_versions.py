"""Numbers for classes that travel by value with arguments: another one when a class has changed.

A child makes such a class once for each number. So it is there as it was when the call was made, and
the same class for as long as nothing changes.
"""

from __future__ import annotations

import os
import threading
from itertools import count

from manyhands._submit.fingerprint import Fingerprint
from manyhands._submit.lru import Recent

_MAX_CLASSES = 256

_numbers = count(1)
_lock = threading.RLock()
_known: Recent[int, tuple[type, Fingerprint, int]] = Recent(_MAX_CLASSES, _MAX_CLASSES)


def version_of(kind: type) -> int:
    """Return the number of a class as it is now. One that cannot be watched has another each time."""
    with _lock:
        known = _known.use(id(kind))
        if known is not None and known[1].holds():
            return known[2]
        number = next(_numbers)
        if known is None or not known[1].blind:
            _known.put(id(kind), (kind, Fingerprint(kind), number), 1)
        return number


def _renew_lock() -> None:
    """In a forked child: its holder may not be here."""
    global _lock  # noqa: PLW0603 - there is one for all classes
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
