"""Descriptors of files that hold many values: one is enough for each file."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial


class Files:
    """Descriptors by the file that they are of."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], list[int]] = {}  # descriptor, and how many need it

    def take(self, fd: int) -> tuple[int, Callable[[], None]]:
        """Take over a descriptor; returns one of the same file, and what to call in the end."""
        found = os.fstat(fd)
        name = found.st_dev, found.st_ino
        entry = self._files.get(name)
        if entry is None:
            entry = self._files[name] = [fd, 0]
        else:
            os.close(fd)
        entry[1] += 1
        return entry[0], partial(self._done, name)

    def _done(self, name: tuple[int, int]) -> None:
        entry = self._files[name]
        entry[1] -= 1
        if not entry[1]:
            os.close(self._files.pop(name)[0])
