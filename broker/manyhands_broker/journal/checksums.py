"""Checksums of what lies in the database: a damaged row is found out when it is read.

SQLite notices a page whose structure is damaged, and not one whose content is. Payload files need no
checksum beside their name, which is the digest of their content.
"""

from __future__ import annotations

from zlib import crc32

import msgpack

from manyhands_shared.payloads.payload import Buffer


def check(content: Buffer, *place: int | str) -> int:
    """The checksum of a row's content, bound to its place: the numbers that say what it belongs to."""
    return crc32(content, crc32(repr(place).encode()))


def of_values(*values: object) -> int:
    """The checksum of a row of small values."""
    return crc32(msgpack.packb(values))
