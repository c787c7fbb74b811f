"""Damage in the middle of SQLite's write-ahead log.

SQLite reads the log up to the first frame whose checksum is wrong, and takes that for the end of what a
crash has left. Where whole transactions lie behind it, it is damage: they were acknowledged. Then the
chain of checksums is made anew from there on, so that all frames are read. What is wrong in the damaged
one is found by the checks of the database.

A log is a header of 32 bytes and frames of 24 bytes and a page. Frames of an earlier round of the same
file have another salt than the header.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER, _FRAME = 32, 24
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_VERSION, _PAGE = 3_007_000, 4_096
_WORD = 0xFFFFFFFF


def commits_behind(log: Path, valid: int) -> int:
    """How many transactions end behind the first `valid` frames of a log."""
    try:
        with log.open("rb") as file:
            return sum(1 for number, ends in _frames(file.fileno()) if ends and number >= valid)
    except FileNotFoundError:
        return 0


def reseal(log: Path, valid: int) -> None:
    """Make the checksums of all frames behind the first `valid` ones right, as their content is."""
    with log.open("r+b") as file:
        header = _header(file.fileno())
        file.write(header)
        magic, _, size = struct.unpack_from(">3I", header)
        salts = header[16:24]
        order = ">" if magic == _BIG else "<"
        last = max(number for number, ends in _frames(file.fileno()) if ends)
        length = _FRAME + size
        sums = struct.unpack_from(">2I", header, 24)
        if valid:
            file.seek(_HEADER + (valid - 1) * length + 16)
            sums = struct.unpack(">2I", file.read(8))
        for number in range(valid, last + 1):
            at = _HEADER + number * length
            file.seek(at)
            frame = file.read(length)
            sums = _checksum(frame[:8] + frame[_FRAME:], order, *sums)
            file.seek(at + 8)
            file.write(salts + struct.pack(">2I", *sums))
        file.flush()
        os.fsync(file.fileno())


def apply(log: Path, database: Path) -> None:
    """Write the pages of all whole transactions of a log into a copy of its database."""
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return
    header = content[:_HEADER]
    if len(header) < _HEADER:
        return
    magic, _, size = struct.unpack_from(">3I", header)
    order = ">" if magic == _BIG else "<"
    if size != _PAGE or struct.pack(">2I", *_checksum(header[:24], order, 0, 0)) != header[24:]:
        return
    sums = struct.unpack_from(">2I", header, 24)
    pages: dict[int, bytes] = {}
    with database.open("r+b") as file:
        for at in range(_HEADER, len(content) - _FRAME - size + 1, _FRAME + size):
            frame, page = content[at : at + _FRAME], content[at + _FRAME : at + _FRAME + size]
            sums = _checksum(frame[:8] + page, order, *sums)
            if frame[8:16] != header[16:24] or frame[16:] != struct.pack(">2I", *sums):
                return
            number, total = struct.unpack_from(">2I", frame)
            pages[number] = page
            if total:
                for number, page in pages.items():
                    file.seek((number - 1) * size)
                    file.write(page)
                file.truncate(total * size)
                pages.clear()


def _frames(descriptor: int) -> Iterator[tuple[int, bool]]:
    """Frames of the present round: their numbers, and whether each ends a transaction."""
    header = _header(descriptor)
    [size] = struct.unpack_from(">I", header, 8)
    number, at = 0, _HEADER
    while len(frame := os.pread(descriptor, _FRAME, at)) == _FRAME:
        if frame[8:16] == header[16:24]:
            yield number, frame[4:8] != bytes(4)
        number, at = number + 1, at + _FRAME + size


def _header(descriptor: int) -> bytes:
    """The log's header; where it is damaged, one that fits its first frame."""
    header = os.pread(descriptor, _HEADER, 0)
    if len(header) == _HEADER:
        [magic] = struct.unpack_from(">I", header)
        order = ">" if magic == _BIG else "<"
        if struct.pack(">2I", *_checksum(header[:24], order, 0, 0)) == header[24:]:
            return header
    salts = os.pread(descriptor, 8, _HEADER + 8).ljust(8, b"\0")
    header = struct.pack(">4I", _LITTLE, _VERSION, _PAGE, 0) + salts
    return header + struct.pack(">2I", *_checksum(header, "<", 0, 0))


def _checksum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second
