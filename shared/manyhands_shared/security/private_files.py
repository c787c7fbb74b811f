"""Files and directories that are for their owner alone, whatever the umask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Have everything that this process creates meanwhile be its user's alone: 0600 and 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
