"""Modules of a user's own on their way to the nodes: one payload, named by its digest.

A bundle is the msgpack array ``[version, files]``. A file is ``[path, origin, bytes]``: its place in
the bundle, and where it was on the client's machine. Files come in the order of their paths, so that
equal modules make equal bytes. `load` trusts nothing: a bundle may come from any client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload

VERSION = 1
#: Bytes of a whole bundle, files in it, and characters of a path or an origin.
MAX_BYTES = 32 << 20
MAX_FILES = 4_096
MAX_PATH = 1_024
_MAX_NAME_BYTES = 255


class File(NamedTuple):
    """One file of a bundle."""

    path: str
    origin: str
    data: bytes


def dump(files: Iterable[File]) -> bytes:
    """Return files as a payload.

    Raises:
        ProtocolError: nodes would not take it; the text says why.
    """
    rows = sorted(files)
    _check(rows)
    payload: bytes = msgpack.packb([VERSION, rows], use_bin_type=True)
    if len(payload) > MAX_BYTES:
        raise ProtocolError(f"{len(payload)} bytes of code, {MAX_BYTES} are allowed")
    return payload


def load(payload: Payload) -> list[File]:
    """Return the files of a payload.

    Raises:
        ProtocolError: it is no bundle, breaks a bound, or has a file outside its directory.
    """
    data = whole(payload)
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"{len(data)} bytes of code, {MAX_BYTES} are allowed")
    try:
        row = msgpack.unpackb(
            data, raw=False, max_array_len=MAX_FILES, max_map_len=0, max_ext_len=0
        )
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen kinds
        raise ProtocolError(f"a bundle that is not msgpack ({error})") from None
    if type(row) is not list or len(row) != 2 or row[0] != VERSION or type(row[1]) is not list:
        raise ProtocolError("a bundle of another version")
    for entry in row[1]:
        if type(entry) is not list or list(map(type, entry)) != [str, str, bytes]:
            raise ProtocolError("a bundle with an entry that is no file")
    files = [File(*entry) for entry in row[1]]
    _check(files)
    return files


def digest_of(payload: Payload) -> bytes:
    """Return the name of a payload: BLAKE2b, 16 bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in payload if isinstance(payload, tuple) else (payload,):
        digest.update(part)
    return digest.digest()


def whole(payload: Payload) -> bytes:
    """Return a payload in one piece."""
    if isinstance(payload, tuple):
        return b"".join(map(bytes, payload))
    return bytes(payload)


def _check(files: list[File]) -> None:
    """Raise `ProtocolError` if these files cannot stand in one directory, each at its path."""
    if not 0 < len(files) <= MAX_FILES:
        raise ProtocolError(f"{len(files)} files of code, 1 to {MAX_FILES} are allowed")
    paths = [file.path for file in files]
    known = set(paths)
    if len(known) < len(paths) or paths != sorted(paths):
        raise ProtocolError("a bundle whose paths are not rising")
    for file in files:
        if len(file.origin) > MAX_PATH or not _is_inside(file.path):
            raise ProtocolError(f"a bundle with the path {file.path!r:.80}")
        parents = file.path.split("/")[:-1]
        if any("/".join(parents[:depth]) in known for depth in range(1, len(parents) + 1)):
            raise ProtocolError(f"a bundle with files below the file {file.path!r:.80}")


def _is_inside(path: str) -> bool:
    """Whether a path names a file inside the directory that it is relative to, on every system."""
    if len(path) > MAX_PATH or any(mark in path for mark in ("\\", ":")) or not path.isprintable():
        return False
    try:
        lengths = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError:
        return False
    return all(0 < length <= _MAX_NAME_BYTES for length in lengths) and not (
        {".", ".."} & set(path.split("/"))
    )


class _Process:
    """The bundle whose modules this process has, if tasks run in it."""

    files: Callable[[], list[File]] | None = None
    names: frozenset[str] = frozenset()


def activate(files: Callable[[], list[File]], names: frozenset[str]) -> None:
    """From now on, this process has the modules of a bundle: `names`, and their files when asked."""
    _Process.files, _Process.names = files, names


def active() -> list[File]:
    """Return the files of the bundle that this process has; none if it has no bundle."""
    return [] if _Process.files is None else _Process.files()


def active_names() -> frozenset[str]:
    """Return the names of the modules of that bundle."""
    return _Process.names
