"""The room that a journal has on its disk, and whether its directory is still there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

#: Room that is taken beforehand, and given up while a job is deleted: that too has to be written.
ASIDE_BYTES = 4 << 20


class Room:
    """The room in `directory`; submissions leave `reserve` bytes of it free."""

    def __init__(self, directory: Path, reserve: int) -> None:
        self._directory = directory
        self._reserve = reserve
        self._database = directory / "journal.db"
        self._aside = directory / "room"
        self._identity: tuple[int, int] | None = None

    def set_aside(self) -> None:
        """Take some room for later, if there is plenty; remember which file the database is."""
        with contextlib.suppress(OSError):
            found = self._database.stat()
            self._identity = (found.st_dev, found.st_ino)
            there = self._aside.stat().st_size if self._aside.exists() else 0
            if there < ASIDE_BYTES and self._free() > 4 * ASIDE_BYTES:
                with self._aside.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, ASIDE_BYTES)

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Let go of the room that was set aside, and take it again if there is some."""
        self._aside.unlink(missing_ok=True)
        try:
            yield
        finally:
            self.set_aside()

    def gone(self) -> str:
        """Where the database went, in a sentence; empty while it is where it was."""
        if self._identity is None:
            return ""
        try:
            found = self._database.stat()
            if (found.st_dev, found.st_ino) == self._identity:
                return ""
        except OSError:
            pass
        return (
            f"the journal in {self._directory} was removed or replaced while the broker ran; "
            "put it back from a backup, and start the broker again"
        )

    @property
    def is_full(self) -> bool:
        """Whether the file system has no byte left."""
        with contextlib.suppress(OSError):
            return self._free() == 0
        return False

    def short_of(self, nbytes: int) -> int:
        """Return the bytes lacking for `nbytes` and the reserve; less than 0 if there are more."""
        try:
            return nbytes + self._reserve - self._free()
        except OSError:
            return nbytes + self._reserve

    def close(self) -> None:
        """Give up what was set aside."""
        with contextlib.suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def _free(self) -> int:
        space = os.statvfs(self._directory)
        return space.f_bavail * space.f_frsize
