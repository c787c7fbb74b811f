"""Large payloads as content-addressed files beside the database.

A file is named by the BLAKE2b digest of its content. It is written under another name, flushed, and
renamed into place whole. Its directory is flushed before the transaction that refers to it commits. So
a name in the database always has its file. A file without a name is only waste that `sweep` removes.

A file holds the length of a head (4 bytes, little-endian), the head, and then the buffers. The head is
msgpack: whether the payload is one ``bytes``, and the length of each of its buffers. So neither writing
nor reading makes a second copy of a large array.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgpack

from manyhands_broker.core.store import Damaged
from manyhands_broker.descriptor_reserve import opened
from manyhands_broker.journal.interface import JournalBroken, JournalFull
from manyhands_shared.payloads.payload import Payload

log = logging.getLogger("manyhands.broker")

#: Shortages that may pass, and what ends them.
_FULL = "the disk is full; free some space on it"
_TOO_MANY = "too many files are open; allow more (`ulimit -n`)"
_SHORTAGES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
}


class PayloadFiles:
    """The files of one journal, in a directory of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unsynced: set[Path] = set()
        root.mkdir(parents=True, exist_ok=True)

    def put(self, body: Payload) -> str:
        """Keep a payload; returns its name. The same content is kept once.

        Raises:
            JournalFull: the disk is full, or too many files are open.
            JournalBroken: the disk fails.
        """
        parts = _parts(body)
        name = _digest(parts)
        place = self._place(name)
        if self._is_whole(name):
            return name
        draft = place.with_suffix(".draft")
        try:
            place.parent.mkdir(exist_ok=True)
            with opened(lambda: draft.open("wb")) as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise _failure(f"cannot write {place}", error) from None
        self._unsynced.update((place.parent, self._root))
        return name

    def sync(self) -> None:
        """Make the names of what was put survive a power loss.

        Raises:
            JournalFull: too many files are open.
            JournalBroken: the disk fails.
        """
        for directory in list(self._unsynced):
            sync_directory(directory)
            self._unsynced.discard(directory)

    def get(self, name: str) -> Payload | Damaged:
        """The payload in a file that was put, if what is there is still what the name says."""
        place = self._place(name)
        try:
            with opened(lambda: place.open("rb")) as file:
                prefix = file.read(4)
                head = file.read(int.from_bytes(prefix, "little"))
                whole, lengths = msgpack.unpackb(head)
                parts = [file.read(length) for length in lengths]
                rest = file.read(1)
        except FileNotFoundError:
            return Damaged(f"the payload file {place} is missing")
        except OSError as error:
            return Damaged(f"the payload file {place} cannot be read: {error.strerror}")
        except (ValueError, TypeError, OverflowError, MemoryError):
            return Damaged(f"the payload file {place} is damaged")
        if rest or _digest([prefix, head, *parts]) != name:
            return Damaged(f"the payload file {place} is damaged")
        return parts[0] if whole else tuple(parts)

    def remove(self, name: str) -> None:
        """Delete a file that nothing refers to. One that cannot be deleted is waste, no failure."""
        with contextlib.suppress(OSError):
            self._place(name).unlink()

    def sweep(self, wanted: Collection[str]) -> None:
        """Delete what a crash left: every file whose name is not in `wanted`.

        Nothing is deleted where a file is missing: what it belongs to may go by a damaged name.
        """
        places = list(self._root.glob("*/*"))
        missing = set(wanted) - {place.name for place in places}
        if missing:
            log.error(
                "%d payload files are missing from %s, among them %s; their tasks or results are lost",
                len(missing),
                self._root,
                min(missing),
            )
            return
        for place in places:
            if place.name not in wanted:
                place.unlink(missing_ok=True)

    def _is_whole(self, name: str) -> bool:
        """Whether a file is there and undamaged. A damaged one is written anew."""
        digest = hashlib.blake2b(digest_size=20)
        try:
            with opened(lambda: self._place(name).open("rb")) as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except OSError:
            return False
        return digest.hexdigest() == name

    def _place(self, name: str) -> Path:
        return self._root / name[:2] / name


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power loss.

    Raises:
        JournalFull: too many files are open.
        JournalBroken: the disk fails.
    """
    try:
        descriptor = opened(lambda: os.open(directory, os.O_RDONLY))
    except OSError as error:
        raise _failure(f"cannot flush {directory}", error) from None
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise JournalBroken(f"cannot flush {directory}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _failure(what: str, error: OSError) -> JournalFull | JournalBroken:
    """What to raise: a shortage may pass, and after any other failure nothing is tried again."""
    if error.errno in _SHORTAGES:
        return JournalFull(f"{what}: {_SHORTAGES[error.errno]}")
    return JournalBroken(f"{what}: {error.strerror}")


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parts(body: Payload) -> list[bytes | memoryview]:
    whole = not isinstance(body, tuple)
    buffers = [
        memoryview(part).cast("B") for part in (body if isinstance(body, tuple) else (body,))
    ]
    head = bytes(msgpack.packb([whole, [buffer.nbytes for buffer in buffers]]))
    return [len(head).to_bytes(4, "little"), head, *buffers]
