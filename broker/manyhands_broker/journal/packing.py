"""Payloads as bytes: small ones whole, large ones by the name of a file."""

from __future__ import annotations

from typing import Any

import msgpack

from manyhands_broker.journal.files import PayloadFiles
from manyhands_broker.journal.interface import JournalBroken
from manyhands_shared.serial import Payload, nbytes

#: Payloads above this size become files: a database page cache is no place for arrays.
FILE_BYTES = 256 << 10


def pack(bodies: list[Payload], files: PayloadFiles) -> tuple[bytes, list[str]]:
    """Bodies as one msgpack array, and the names of the files that it refers to."""
    if set(map(type, bodies)) == {bytes} and max(map(len, bodies)) <= FILE_BYTES:
        return msgpack.packb(bodies, use_bin_type=True), []
    names: list[str] = []
    row: list[Any] = []
    for body in bodies:
        if nbytes(body) > FILE_BYTES:
            names.append(files.put(body))
            row.append({"file": names[-1]})
        else:
            row.append([bytes(part) for part in body] if isinstance(body, tuple) else bytes(body))
    return msgpack.packb(row, use_bin_type=True), names


def unpack(data: bytes, files: PayloadFiles, lo: int = 0, hi: int | None = None) -> list[Payload]:
    """The bodies `lo` to `hi` (excluded) again; files of others are not read.

    Raises:
        JournalBroken: this is not what `pack` made.
    """
    try:
        row = msgpack.unpackb(data, raw=False)
    except ValueError as error:
        raise JournalBroken(f"the journal holds a damaged payload ({error})") from None
    return [_body(entry, files) for entry in row[lo:hi]]


def _body(entry: Any, files: PayloadFiles) -> Payload:
    if isinstance(entry, bytes):
        return entry
    if isinstance(entry, list):
        return tuple(entry)
    return files.get(entry["file"])
