"""Large payloads as content-addressed files beside the database.

A file is named by the BLAKE2b digest of its content, written under another name, flushed, and linked
into place whole; its directory is flushed before the transaction that refers to it commits. So a name
in the database always has its file, and a file without a name is only waste that `sweep` removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from manyhands_broker.journal.interface import JournalBroken, JournalFull


class PayloadFiles:
    """The files of one journal, in a directory of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unsynced: set[Path] = set()
        root.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keep `data`; returns its name. The same content is kept once.

        Raises:
            JournalFull: the disk is full.
            JournalBroken: the disk fails.
        """
        name = hashlib.blake2b(data, digest_size=20).hexdigest()
        place = self._place(name)
        if place.exists():
            return name
        draft = place.with_suffix(".draft")
        try:
            place.parent.mkdir(exist_ok=True)
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            kind = JournalFull if error.errno in (28, 122) else JournalBroken
            raise kind(f"cannot write {place}: {error}") from None
        self._unsynced.update((place.parent, self._root))
        return name

    def sync(self) -> None:
        """Make the names of what was put survive a power loss."""
        while self._unsynced:
            directory = os.open(self._unsynced.pop(), os.O_RDONLY)
            try:
                os.fsync(directory)
            except OSError as error:
                raise JournalBroken(f"cannot flush {self._root}: {error}") from None
            finally:
                os.close(directory)

    def get(self, name: str) -> bytes:
        """The content of a file that was put."""
        try:
            return self._place(name).read_bytes()
        except OSError as error:
            raise JournalBroken(f"a payload is missing from the journal: {error}") from None

    def remove(self, name: str) -> None:
        """Delete a file that nothing refers to."""
        self._place(name).unlink(missing_ok=True)

    def sweep(self, wanted: Collection[str]) -> None:
        """Delete what a crash left: every file whose name is not in `wanted`."""
        for place in self._root.glob("*/*"):
            if place.name not in wanted:
                place.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        return self._root / name[:2] / name
