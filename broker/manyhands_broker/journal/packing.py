"""Payloads as bytes: small ones whole, large ones by the name of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from manyhands_broker.core.store import Damaged
from manyhands_broker.journal.files import PayloadFiles
from manyhands_shared.payloads.payload import Payload, nbytes

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


def unpack(
    data: bytes, files: PayloadFiles, lo: int = 0, hi: int | None = None
) -> list[Payload | Damaged]:
    """The bodies `lo` to `hi` (excluded) of what `pack` made; files of others are not read."""
    return [_body(entry, files) for entry in msgpack.unpackb(data, raw=False)[lo:hi]]


def names(data: bytes) -> Iterable[str]:
    """The files that a row refers to."""
    return [entry["file"] for entry in msgpack.unpackb(data, raw=False) if isinstance(entry, dict)]


def _body(entry: Any, files: PayloadFiles) -> Payload | Damaged:
    if isinstance(entry, bytes):
        return entry
    if isinstance(entry, list):
        return tuple(entry)
    return files.get(entry["file"])
