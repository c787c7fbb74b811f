"""Payloads as bytes: small ones whole, large ones by the name of a file."""

from __future__ import annotations

from typing import Any

import msgpack

from manyhands_broker.journal.files import PayloadFiles
from manyhands_shared.serial import Payload, nbytes

#: Payloads above this size become files: a database page cache is no place for arrays.
FILE_BYTES = 256 << 10


def pack(bodies: list[Payload], files: PayloadFiles) -> tuple[bytes, list[str]]:
    """Bodies as one msgpack array, and the names of the files that it refers to."""
    names: list[str] = []
    row: list[Any] = []
    for body in bodies:
        if nbytes(body) > FILE_BYTES:
            names.append(files.put(_encode(body)))
            row.append({"file": names[-1]})
        else:
            row.append(body if isinstance(body, bytes) else [bytes(part) for part in body])
    return msgpack.packb(row, use_bin_type=True), names


def unpack(data: bytes, files: PayloadFiles) -> list[Payload]:
    """The bodies again."""
    return [_body(entry, files) for entry in msgpack.unpackb(data, raw=False)]


def _encode(body: Payload) -> bytes:
    parts = [body] if isinstance(body, bytes) else [bytes(part) for part in body]
    return bytes(msgpack.packb([isinstance(body, bytes), parts], use_bin_type=True))


def _body(entry: Any, files: PayloadFiles) -> Payload:
    if isinstance(entry, bytes):
        return entry
    if isinstance(entry, list):
        return tuple(entry)
    whole, parts = msgpack.unpackb(
        files.get(entry["file"]), raw=False, max_bin_len=1 << 32, max_buffer_size=1 << 33
    )
    return parts[0] if whole else tuple(parts)
