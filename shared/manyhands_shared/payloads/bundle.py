"""What tasks find around them, on its way to the nodes: one payload, named by its digest.

A bundle is the msgpack array ``[version, modules, data, environment, directory]``. A module is a file
``[path, origin, bytes]``: its place in the bundle, and where it was on the client's machine. A data file
is ``[path, executable, bytes]``. The environment is an array of names and values. All come in order, so
that equal bundles have equal bytes. `load` trusts nothing: a bundle may come from any client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload

VERSION = 2
#: Bytes of a whole bundle, files in it, and characters of a path or an origin.
MAX_BYTES = 32 << 20
MAX_FILES = 4_096
MAX_PATH = 1_024
#: Variables of an environment, and characters of a name or a value.
MAX_VARIABLES = 256
MAX_VALUE = 32_768
_MAX_NAME_BYTES = 255
#: Variables with this prefix steer nodes and clients.
_OURS = "MANYHANDS_"


class File(NamedTuple):
    """One file of a bundle."""

    path: str
    origin: str
    data: bytes


class DataFile(NamedTuple):
    """One file in the directory where tasks run."""

    path: str
    executable: bool
    data: bytes


@dataclass(frozen=True)
class Surroundings:
    """What the tasks of a job find beside their modules.

    - `files`: in their working directory, each at its path there.
    - `environment`: variables, beside those of the node.
    - `directory`: where they run, on the node; empty: where the files are, or else where the node runs.
    """

    files: Sequence[DataFile] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""


class Bundle(NamedTuple):
    """A bundle as it was unpacked."""

    modules: list[File]
    surroundings: Surroundings


def dump(modules: Iterable[File], surroundings: Surroundings | None = None) -> bytes:
    """Return a bundle as a payload.

    Raises:
        ProtocolError: nodes would not take it; the text says why.
    """
    around = surroundings or Surroundings()
    rows, data = sorted(modules), sorted(around.files)
    _check(rows, data, around)
    row = [VERSION, rows, data, sorted(around.environment.items()), around.directory]
    try:
        payload: bytes = msgpack.packb(row, use_bin_type=True)
    except UnicodeEncodeError:
        raise ProtocolError("a file name or a variable that is no text") from None
    if len(payload) > MAX_BYTES:
        raise ProtocolError(f"{len(payload)} bytes of code and files, {MAX_BYTES} are allowed")
    return payload


def load(payload: Payload) -> Bundle:
    """Return what a payload holds.

    Raises:
        ProtocolError: it is no bundle, breaks a bound, or has a file outside its directory.
    """
    data = whole(payload)
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"{len(data)} bytes of code and files, {MAX_BYTES} are allowed")
    try:
        row = msgpack.unpackb(
            data, raw=False, max_array_len=MAX_FILES, max_map_len=0, max_ext_len=0
        )
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen kinds
        raise ProtocolError(f"a bundle that is not msgpack ({error})") from None
    if type(row) is not list or not row or row[0] != VERSION:
        raise ProtocolError("a bundle of another version")
    if list(map(type, row)) != [int, list, list, list, str]:
        raise ProtocolError("a bundle without its parts")
    modules = [File(*entry) for entry in _typed(row[1], [str, str, bytes])]
    files = [DataFile(*entry) for entry in _typed(row[2], [str, bool, bytes])]
    pairs = _typed(row[3], [str, str])
    around = Surroundings(files, dict(pairs), row[4])
    if len(around.environment) < len(pairs):
        raise ProtocolError("a bundle with a variable twice")
    _check(modules, files, around)
    return Bundle(modules, around)


def _typed(entries: list[Any], kinds: list[type]) -> list[Any]:
    """Return entries that have these parts each."""
    for entry in entries:
        if type(entry) is not list or list(map(type, entry)) != kinds:
            raise ProtocolError("a bundle with an entry of another kind")
    return entries


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


def check_surroundings(around: Surroundings) -> None:
    """Raise `ProtocolError` if no child can have this environment and directory; the text says why."""
    if len(around.environment) > MAX_VARIABLES:
        raise ProtocolError(f"{len(around.environment)} variables, {MAX_VARIABLES} are allowed")
    for name, value in around.environment.items():
        if not name or "=" in name or "\0" in name + value or name.startswith(_OURS):
            raise ProtocolError(f"no task can be given the variable {name!r:.80}")
        if max(len(name), len(value)) > MAX_VALUE:
            raise ProtocolError(f"the variable {name!r:.80} is longer than {MAX_VALUE} characters")
    directory = around.directory
    if len(directory) > MAX_PATH or "\0" in directory or (around.files and directory):
        raise ProtocolError(f"no task can run in the directory {directory!r:.80}")


def _check(modules: list[File], files: list[DataFile], around: Surroundings) -> None:
    """Raise `ProtocolError` if no child can have all this."""
    if not (modules or files or around.environment or around.directory):
        raise ProtocolError("a bundle of nothing")
    if len(modules) + len(files) > MAX_FILES:
        raise ProtocolError(f"{len(modules) + len(files)} files, {MAX_FILES} are allowed")
    _check_paths([file.path for file in modules])
    _check_paths([file.path for file in files])
    if any(len(file.origin) > MAX_PATH for file in modules):
        raise ProtocolError("a bundle with an origin that is too long")
    check_surroundings(around)


def _check_paths(paths: list[str]) -> None:
    """Raise `ProtocolError` if files cannot stand in one directory, each at its path."""
    known = set(paths)
    if len(known) < len(paths) or paths != sorted(paths):
        raise ProtocolError("a bundle whose paths are not rising")
    for path in paths:
        if not _is_inside(path):
            raise ProtocolError(f"a bundle with the path {path!r:.80}")
        parents = path.split("/")[:-1]
        if any("/".join(parents[:depth]) in known for depth in range(1, len(parents) + 1)):
            raise ProtocolError(f"a bundle with files below the file {path!r:.80}")


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
