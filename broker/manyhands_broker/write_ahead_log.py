"""The write-ahead log of the coordinator: one file, appended once a drain, before anybody is told.

A record is its length, its checksum, and a msgpack array of kind, key and payload. The last of a key
counts; one without payload says that the key is gone. Nothing is synced to the disk: the log outlives
the broker's process, not its machine. In all records of a drain but the last a bit of the length says
that more follow. A drain that is not whole was torn by a kill, and is dropped: none of it was answered.
Half of it would be a state that never was.

What does not fit the disk stays in memory and is written when there is room again. The broker goes on
meanwhile as one without a directory does, and says so once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgpack

from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_shared.clock import Clock
from manyhands_shared.errors import ConfigError

log = logging.getLogger("manyhands.broker")

_MAGIC = b"MHCLOG2\n"
_HEAD = struct.Struct("<II")
#: Kept, for making one takes longer than packing a record.
_PACKER = msgpack.Packer()
#: In a record's length: another record of the same drain follows.
_MORE = 1 << 31
#: A file below this is never rewritten; a larger one when at most half of it counts.
REWRITE_BYTES = 16 << 20
#: How long one turn of a rewrite takes, at most.
_SLICE_SECONDS = 0.005
#: Between two attempts to write to a disk without room.
_ROOM_SECONDS = 1.0
_READ_BYTES = 1 << 20

_Key = tuple[int, bytes]


class RecordLog(Protocol):
    """What the coordinator's driver writes to."""

    @property
    def working(self) -> bool:
        """Whether `work` has something to do."""

    def load(self) -> Iterator[Record]:
        """Yield the last record of each key."""

    def write(self, records: Sequence[Record], now: float) -> None:
        """Write records; what they say has outlived the process when this returns."""

    def work(self) -> None:
        """Go on with what is done in slices."""

    def close(self) -> None:
        """Close the file; one that holds nothing goes."""


class NoLog:
    """In place of a log where there is no directory for one."""

    working = False

    def load(self) -> Iterator[Record]:
        """Yield nothing."""
        return iter(())

    def write(self, records: Sequence[Record], now: float) -> None:
        """Write nothing."""

    def work(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class WriteAheadLog:
    """A log in `directory`, which is made with the first record.

    Args:
        directory: where its file is.
        clock: for the slices of a rewrite.

    Raises:
        ConfigError: another broker has it, or it cannot be used.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._path = directory / "coordination.log"
        self._clock = clock
        self._file = -1
        self._size = 0
        #: Where in the file each key's last record is: offset and length. And their bytes together.
        self._index: dict[_Key, tuple[int, int]] = {}
        self._live = 0
        #: Records that the disk has had no room for, packed.
        self._unwritten: dict[_Key, bytes] = {}
        self._try_again = 0.0
        self._rewrite: _Rewrite | None = None
        if self._path.exists():
            self._open()

    @property
    def working(self) -> bool:
        """See `RecordLog`."""
        return self._rewrite is not None

    def load(self) -> Iterator[Record]:
        """See `RecordLog`."""
        for (kind, key), (offset, length) in list(self._index.items()):
            data = os.pread(self._file, length, offset)
            payload = msgpack.unpackb(data[_HEAD.size :], strict_map_key=False)[2]
            yield Record(RecordKind(kind), key, payload)

    def write(self, records: Sequence[Record], now: float) -> None:
        """See `RecordLog`."""
        last = len(records) - 1
        parts = [_pack(one, _MORE if at < last else 0) for at, one in enumerate(records)]
        if self._unwritten:
            self._keep(records, parts)
            if now >= self._try_again:
                self._write_late(now)
            return
        try:
            if self._file < 0:
                self._open()
            at = self._append(parts)
        except (OSError, ConfigError) as error:
            log.error(  # noqa: TRY400 - one line
                "the log %s cannot be written (%s). Programs of several processes end with this broker "
                "until it can: make room there, or give another --coordination-dir",
                self._path,
                getattr(error, "strerror", None) or error,
            )
            self._keep(records, parts)
            self._try_again = now + _ROOM_SECONDS
            return
        for record, data in zip(records, parts, strict=True):
            size = len(data)
            gone = record.payload is None
            self._place((int(record.kind), record.key), None if gone else (at, size))
            at += size
        if self._size > REWRITE_BYTES and self._live < self._size // 2 and not self._rewrite:
            self._rewrite = self._begin_rewrite()

    def work(self) -> None:
        """See `RecordLog`."""
        rewrite = self._rewrite
        if rewrite is None:
            return
        try:
            until = self._clock() + _SLICE_SECONDS
            while self._clock() < until:
                if not rewrite.copy(self._file, self._index):
                    self._take_over(rewrite)
                    return
        except OSError:
            # There is no room for a second file now; the first goes on.
            rewrite.drop()
            self._rewrite = None

    def close(self) -> None:
        """See `RecordLog`."""
        if self._rewrite is not None:
            self._rewrite.drop()
        if self._file < 0:
            return
        if not self._index and not self._unwritten:
            with contextlib.suppress(OSError):
                self._path.unlink()
                self._path.parent.rmdir()
        os.close(self._file)
        self._file = -1

    def _open(self) -> None:
        """Open or make the file; read what it has.

        Raises:
            ConfigError: another broker has it.
            OSError: it cannot be opened.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            self._file = -1
            raise ConfigError(
                f"{self._path} is another broker's; give this one another --coordination-dir"
            ) from None
        end = os.lseek(self._file, 0, os.SEEK_END)
        if end < len(_MAGIC):
            os.pwrite(self._file, _MAGIC, 0)
            os.ftruncate(self._file, len(_MAGIC))
            self._size = len(_MAGIC)
            return
        if os.pread(self._file, len(_MAGIC), 0) != _MAGIC:
            os.close(self._file)
            self._file = -1
            raise ConfigError(f"{self._path} is no log of this version; move it away")
        self._size = len(_MAGIC)
        drain: list[tuple[_Key, tuple[int, int] | None]] = []
        at = self._size
        for key, gone, length, more in _scan(self._file, end):
            drain.append((key, None if gone else (at, length)))
            at += length
            if not more:
                for one, where in drain:
                    self._place(one, where)
                drain.clear()
                self._size = at
        if self._size < end:
            log.warning(
                "dropped %d bytes of %s behind the last whole drain", end - self._size, self._path
            )
            os.ftruncate(self._file, self._size)

    def _keep(self, records: Sequence[Record], parts: list[bytes]) -> None:
        """Keep records that the disk has no room for."""
        for record, data in zip(records, parts, strict=True):
            self._unwritten[int(record.kind), record.key] = data

    def _append(self, parts: list[bytes]) -> int:
        """Write a drain behind what there is; return where. On failure the file is as before."""
        data = b"".join(parts)
        begin = self._size
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(
                    self._file, data[written:] if written else data, self._size + written
                )
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        return begin

    def _write_late(self, now: float) -> None:
        """Try to write what there was no room for."""
        self._try_again = now + _ROOM_SECONDS
        try:
            if self._file < 0:
                self._open()
            items = list(self._unwritten.items())
            last = len(items) - 1
            at = self._append(
                [_flagged(data, _MORE if n < last else 0) for n, (_, data) in enumerate(items)]
            )
        except (OSError, ConfigError):
            return
        for key, data in items:
            gone = msgpack.unpackb(data[_HEAD.size :], strict_map_key=False)[2] is None
            self._place(key, None if gone else (at, len(data)))
            at += len(data)
        self._unwritten = {}
        log.warning("the log %s can be written again", self._path)

    def _place(self, key: _Key, where: tuple[int, int] | None) -> None:
        before = self._index.pop(key, None)
        if before is not None:
            self._live -= before[1]
        if where is not None:
            self._index[key] = where
            self._live += where[1]
        if self._rewrite is not None:
            self._rewrite.changed[key] = None

    def _begin_rewrite(self) -> _Rewrite | None:
        try:
            return _Rewrite(self._path.with_suffix(".new"), list(self._index))
        except OSError:
            return None

    def _take_over(self, rewrite: _Rewrite) -> None:
        """Put the new file in the place of the old one."""
        fcntl.flock(rewrite.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rewrite.path.rename(self._path)
        os.close(self._file)
        self._file, self._size = rewrite.file, rewrite.size
        self._index = rewrite.index
        self._live = sum(length for _, length in self._index.values())
        self._rewrite = None


class _Rewrite:
    """A new file that gets the records which count, some at a time."""

    def __init__(self, path: Path, keys: list[_Key]) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._keys = keys
        #: Keys that were written since they were copied, or since the beginning.
        self.changed: dict[_Key, None] = {}
        self.index: dict[_Key, tuple[int, int]] = {}
        self.size = os.pwrite(self.file, _MAGIC, 0)

    def copy(self, source: int, index: dict[_Key, tuple[int, int]]) -> bool:
        """Copy one record; false if all are copied and none has changed since."""
        if self._keys:
            key = self._keys.pop()
            self.changed.pop(key, None)
        elif self.changed:
            key = next(iter(self.changed))
            del self.changed[key]
        else:
            return False
        self.index.pop(key, None)
        where = index.get(key)
        if where is None:
            # An older copy of it may stand in the new file.
            data = _pack(Record(RecordKind(key[0]), key[1], None), 0)
        else:
            data = _flagged(os.pread(source, where[1], where[0]), 0)
            self.index[key] = (self.size, where[1])
        self.size += _write_whole(self.file, data, self.size)
        return True

    def drop(self) -> None:
        """Give it up."""
        os.close(self.file)
        with contextlib.suppress(OSError):
            self.path.unlink()


def _write_whole(file: int, data: bytes, at: int) -> int:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:] if done else data, at + done)
    return done


def _pack(record: Record, more: int) -> bytes:
    """Return a record that says whether more of its drain follow."""
    body: bytes = _PACKER.pack([int(record.kind), record.key, record.payload])
    return _HEAD.pack(len(body) | more, zlib.crc32(body)) + body


def _flagged(data: bytes, more: int) -> bytes:
    """Return a packed record that says so anew."""
    length, checksum = _HEAD.unpack_from(data)
    return _HEAD.pack(length & ~_MORE | more, checksum) + data[_HEAD.size :]


def _scan(file: int, end: int) -> Iterator[tuple[_Key, bool, int, bool]]:
    """Yield key, whether it is gone, length, and whether more of its drain follow, of each record."""
    buffer, at = b"", len(_MAGIC)
    offset = 0
    while True:
        if len(buffer) - offset < _HEAD.size or len(buffer) - offset < _HEAD.size + _length(
            buffer, offset
        ):
            need = (
                _HEAD.size
                if len(buffer) - offset < _HEAD.size
                else _HEAD.size + _length(buffer, offset)
            )
            if at + need - (len(buffer) - offset) > end:
                return
            more = os.pread(file, max(_READ_BYTES, need), at)
            if not more:
                return
            buffer, offset = buffer[offset:] + more, 0
            at += len(more)
            continue
        length = _length(buffer, offset)
        body = buffer[offset + _HEAD.size : offset + _HEAD.size + length]
        flags, checksum = _HEAD.unpack_from(buffer, offset)
        if zlib.crc32(body) != checksum:
            return
        row: Any = msgpack.unpackb(body, strict_map_key=False)
        yield (row[0], row[1]), row[2] is None, _HEAD.size + length, bool(flags & _MORE)
        offset += _HEAD.size + length


def _length(buffer: bytes, offset: int) -> int:
    length: int = _HEAD.unpack_from(buffer, offset)[0]
    return length & ~_MORE
