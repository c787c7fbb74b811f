"""Files that are read whole. A device that never ends is no such file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: More than any file that people write by hand.
MOST_BYTES = 4 << 20


def read(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """Return all of a file, or of a pipe.

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
    """
    with Path(path).open("rb") as file:
        return rest(file.fileno(), most)


def rest(descriptor: int, most: int = MOST_BYTES) -> bytes:
    """Return what is left in an open file. Raises as `read` does."""
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB")
    return data
