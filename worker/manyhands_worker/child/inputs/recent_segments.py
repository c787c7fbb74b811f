"""Segments that tasks in a row refer to: borrowed once, and not for each of them.

A child keeps what its last task referred to until the next one is loaded, and nothing while it waits
for work. So it never has more than one task takes. A value that no task needs any more goes as soon as
the child is idle.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from manyhands_shared import shm


class _Loan:
    """Is given back when nothing refers to it any more: neither a child's table nor a view."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back()

    def keep(self) -> None:
        """Do nothing: a view that has this to call keeps the loan."""


class Segment:
    """A borrowed segment, which can be mapped as long as this is there.

    Args:
        fd: its descriptor, which is closed with this.
        at: where in the file it begins.
        give_back: called, on any thread, when nothing looks at it any more.
    """

    __slots__ = ("_at", "_fd", "_loan", "_shared")

    def __init__(self, fd: int, at: int, give_back: Callable[[], None]) -> None:
        self._fd = fd
        self._at = at
        self._loan = _Loan(give_back)
        self._shared: memoryview | None = None

    def __del__(self) -> None:
        os.close(self._fd)

    def fits(self, size: int) -> bool:
        """Whether it is a segment of this number of bytes, and will stay so."""
        return shm.fits(self._fd, size, self._at)

    def view(self, size: int, *, private: bool) -> memoryview:
        """Map its first `size` bytes, all of it; what is written to a private view no other sees.

        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        if private:
            return shm.private_view(self._fd, size, self._loan.keep, self._at)
        if self._shared is None:
            self._shared = shm.shared_view(self._fd, size, self._loan.keep, self._at)
        return self._shared


class RecentSegments:
    """What the last task of a child has referred to, by key and size in bytes."""

    def __init__(self) -> None:
        #: Of the task that was loaded last, or is being loaded; and of the one before, until it is.
        self.kept: dict[tuple[bytes, int], Segment] = {}
        self.before: dict[tuple[bytes, int], Segment] = {}

    def begin(self) -> None:
        """Another task is loaded from now on: its arguments, and perhaps its function."""
        self.before, self.kept = self.kept, {}

    def end(self) -> None:
        """It is loaded: what only the task before had is needed no more."""
        self.before = {}

    def find(self, key: bytes, size: int) -> Segment | None:
        """Return a segment that is here; if it is not, let go of those that only the last task had."""
        found = self.kept.get((key, size)) or self.before.get((key, size))
        if found is None:
            self.before = {}
        else:
            self.kept[key, size] = found
        return found

    def clear(self) -> None:
        """Keep nothing."""
        self.before, self.kept = {}, {}
