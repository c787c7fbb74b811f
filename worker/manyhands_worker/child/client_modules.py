"""What a client sends along with its tasks, as a pool child has it: modules, files, variables.

A bundle is unpacked into a directory that the node's children share. Its modules are loaded from there,
before any of the same name that this machine has. Their `__file__` is their place on the client's
machine if this machine has the very same file there. So what lies beside it is found.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import bundle
from manyhands_shared.payloads.payload import Payload

#: In a bundle's directory: its modules, its data files, and all else: see `_Index`.
_MODULES, _DATA, _INDEX = "modules", "files", "index"
_PACKAGE = "/__init__"


class NoSuchDirectory(OSError):
    """The working directory that a job wants cannot be used on this node; `filename` has it."""


class _Index(NamedTuple):
    """Where each module was on the client's machine, and what else tasks find."""

    origins: dict[str, str]
    environment: dict[str, str]
    #: Empty: the node's own.
    directory: str


class ClientModules:
    """The bundle of this process, once it has one."""

    def __init__(self) -> None:
        # Loaded with the child itself. No bundle takes their place.
        self._own = frozenset(sys.modules)

    def enter(self, directory: str, digest: bytes, payload: Payload | None) -> str:
        """Have the modules of a bundle from now on.

        Args:
            directory: where it is unpacked, or to be.
            digest: its name.
            payload: the bundle; None if it is unpacked.

        Returns:
            Why it cannot be had in this process, in words that follow on "a task"; mostly nothing.

        Raises:
            ProtocolError: the payload is no bundle, or another one.
            NoSuchDirectory: its tasks want to run in a directory that cannot be used here.
            OSError: it cannot be unpacked.
        """
        if payload is not None:
            _unpack(Path(directory), digest, payload)
        index = _read_index(Path(directory))
        finder = BundleFinder(Path(directory) / _MODULES, index.origins)
        for name in finder.names:
            if name in sys.modules and name not in self._own:
                return f"needed another {name} than the one that this child had loaded"
        os.environ.update(index.environment)
        if index.directory:
            try:
                os.chdir(index.directory)
            except OSError as error:
                raise NoSuchDirectory(error.errno, error.strerror, index.directory) from None
        sys.path.insert(0, str(finder.root))
        sys.meta_path.insert(0, finder)
        importlib.invalidate_caches()
        bundle.activate(finder.files, finder.names)
        return ""


class BundleFinder:
    """Finds the modules of one bundle.

    Args:
        root: the directory where they are unpacked.
        origins: where each was on the client's machine, by its path in `root`.
    """

    def __init__(self, root: Path, origins: dict[str, str]) -> None:
        self.root = root
        self._origins = origins
        self._paths = {_module_of(path): path for path in self._origins}

    @property
    def names(self) -> frozenset[str]:
        """The modules."""
        return frozenset(self._paths)

    def files(self) -> list[bundle.File]:
        """The bundle's files, as they came."""
        return [
            bundle.File(path, origin, (self.root / path).read_bytes())
            for path, origin in self._origins.items()
        ]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module; None for one that the bundle has not."""
        del path, target
        inside = self._paths.get(fullname)
        if inside is None:
            return None
        here = str(self.root / inside)
        if inside.endswith(tuple(EXTENSION_SUFFIXES)):
            return spec_from_file_location(
                fullname, here, loader=ExtensionFileLoader(fullname, here)
            )
        shown = here
        origin = self._origins[inside]
        if _equal(origin, here):
            shown = origin
        folders = None
        if inside.removesuffix(".py").endswith(_PACKAGE):
            folders = list(dict.fromkeys(map(os.path.dirname, (shown, here))))
        loader = _Loader(fullname, shown, here)
        return spec_from_file_location(
            fullname, shown, loader=loader, submodule_search_locations=folders
        )


class _Loader(SourceFileLoader):
    """Loads a module from a bundle as if from another path, which has the same text."""

    def __init__(self, fullname: str, path: str, here: str) -> None:
        super().__init__(fullname, path)
        self._here = here

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code, compiled once for all children."""
        code = SourceFileLoader(fullname, self._here).get_code(fullname)
        return code if code is None or self.path == self._here else _relabel(code, self.path)

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file: of the module itself, those of the bundle."""
        return super().get_data(self._here if path == self.path else path)


def _relabel(code: CodeType, path: str) -> CodeType:
    consts = tuple(
        _relabel(const, path) if isinstance(const, CodeType) else const for const in code.co_consts
    )
    return code.replace(co_filename=path, co_consts=consts)


def _module_of(path: str) -> str:
    suffixes = (".py", *EXTENSION_SUFFIXES)
    stem = next((path.removesuffix(end) for end in suffixes if path.endswith(end)), path)
    return stem.removesuffix(_PACKAGE).replace("/", ".")


def _equal(origin: str, here: str) -> bool:
    """Whether this machine has the same file at its place on the client's machine."""
    try:
        if not Path(origin).is_absolute() or os.stat(origin).st_size != os.stat(here).st_size:  # noqa: PTH116
            return False
        return Path(origin).read_bytes() == Path(here).read_bytes()
    except (OSError, ValueError):
        return False


def _unpack(directory: Path, digest: bytes, payload: Payload) -> None:
    """Make a bundle's directory whole, at once: another child may be about to do the same."""
    if directory.is_dir():
        return
    if bundle.digest_of(payload) != digest:
        raise ProtocolError("the code that came is not what the job names")
    modules, around = bundle.load(payload)
    draft = directory.with_name(f"{directory.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        for module in modules:
            _write(draft / _MODULES / module.path, module.data)
        for file in around.files:
            # Shared by all children here, so no task should write to it.
            _write(draft / _DATA / file.path, file.data, 0o555 if file.executable else 0o444)
        (draft / _MODULES).mkdir(exist_ok=True)
        index = _Index(
            {module.path: module.origin for module in modules},
            dict(around.environment),
            str(directory / _DATA) if around.files else around.directory,
        )
        (draft / _INDEX).write_bytes(msgpack.packb(index))
        draft.rename(directory)
    except OSError:
        # Another child was quicker, or there is no room.
        shutil.rmtree(draft, ignore_errors=True)
        if not directory.is_dir():
            raise


def _write(place: Path, data: bytes, mode: int | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    if mode is not None:
        place.chmod(mode)


def _read_index(directory: Path) -> _Index:
    return _Index(*msgpack.unpackb((directory / _INDEX).read_bytes()))
