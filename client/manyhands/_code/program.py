"""The modules of this program, as the bundle that its jobs bring to the nodes.

The bundle holds what the program has imported of the user's own files, and what these import in turn,
inside functions too. More imports, or a changed file, make another bundle: jobs of before keep theirs.

`current` is asked for with every task. It looks at the files only now and then. The longer a look takes,
the longer is the pause, so that looking costs a small share of the time. With a few modules the pause
is a fifth of a millisecond. To write a file and to load it again takes longer.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from importlib.machinery import ModuleSpec, PathFinder
from itertools import islice
from typing import Any, NamedTuple

from manyhands._code.file_state import Signature, are_unchanged, is_recent, signature
from manyhands._code.user_files import is_installed, origin_of, path_in_bundle
from manyhands_shared.errors import ProtocolError, SubmitError
from manyhands_shared.payloads import bundle
from manyhands_shared.protocol.messages import Function

#: A look at the files is followed by a pause of this many times its length, and at least this time.
PAUSE_FACTOR = 50
PAUSE_SECONDS = 0.0002
#: A module that takes the place of another one, so that their number stays, is found so much later.
SEARCH_SECONDS = 0.05
#: Files that are looked at, and how often, to learn how long a look takes.
_SAMPLE, _SAMPLES = 20, 3
_LARGEST = 3


class _Module(NamedTuple):
    """One file as it was read."""

    origin: str
    is_package: bool
    #: None: the file changed a moment ago, and may change again without another one.
    signature: Signature | None
    data: bytes


class ProgramCode:
    """The user's modules of one process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # When to look at the files again, and at all loaded modules.
        self._until = self._search_at = 0.0
        self._pause = PAUSE_SECONDS
        # MANYHANDS_CODE=0: nothing travels.
        self._is_off = False
        self._count = 0
        self._function: Function | None = None
        # What the function was made of.
        self._files: list[bundle.File] = []
        self._modules: dict[str, _Module] = {}
        # The files of `_function`. None while that is made, if it cannot be, and if nothing travels.
        self._read: list[tuple[str, Signature | None]] | None = None
        # Names that were looked at once.
        self._seen: set[str] = set()
        self._base: list[bundle.File] | None = None
        # Something is to go into the bundle that is not in it.
        self._dirty = False

    def current(self) -> Function | None:
        """Return the bundle as a function is sent; None if the program has no modules of its own.

        Raises:
            SubmitError: it is too large.
        """
        now = time.monotonic()
        if len(sys.modules) == self._count:
            if now < self._until:
                return self._function
            # Each lone call looks, so this is short and takes no lock.
            if now < self._search_at and (read := self._read) and are_unchanged(read):
                self._until = now + self._pause
                return self._function
        return self.renew()

    @property
    def files(self) -> list[bundle.File]:
        """The modules of the bundle that `current` has returned last."""
        return [] if self._function is None else self._files

    def renew(self) -> Function | None:
        """Return the bundle as the files are now. Raises as `current` does."""
        with self._lock:
            self._read, self._until = None, 0.0
            if time.monotonic() >= self._search_at or len(sys.modules) != self._count:
                self._search()
            if self._is_off:
                self._function, self._dirty = None, True
            else:
                self._look()
                if self._dirty:
                    self._function = self._make()
                    self._dirty = False
            if not self._is_off:
                self._read = [(one.origin, one.signature) for one in self._modules.values()]
            pause = self._pause if self._modules else SEARCH_SECONDS
            self._until = time.monotonic() + pause
            return self._function

    def forked(self) -> None:
        """Go on in a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()

    # Looking

    def _look(self) -> None:
        """Find changed files."""
        for name, module in list(self._modules.items()):
            now_is = signature(module.origin)
            if now_is is not None and now_is != module.signature:
                self._add(name, module.origin, is_package=module.is_package)

    def _search(self) -> None:
        """Find new modules."""
        self._count = len(sys.modules)
        self._is_off = os.environ.get("MANYHANDS_CODE") == "0"
        if self._base is None:
            self._base = bundle.active()
            self._dirty = bool(self._base)
            self._follow_script()
        for name in set(sys.modules).difference(self._seen):
            self._seen.add(name)
            self._examine(name, getattr(sys.modules.get(name), "__spec__", None))
        self._pause = max(PAUSE_SECONDS, PAUSE_FACTOR * self._look_seconds())
        self._search_at = time.monotonic() + SEARCH_SECONDS

    def _look_seconds(self) -> float:
        """Return how long a look takes that finds nothing, by some files that are looked at now."""
        some = [module.origin for module in islice(self._modules.values(), _SAMPLE)]
        times = []
        # The least of some, for at first the system may have to find a file. Of this thread alone, for a
        # busy machine must not make the pause longer.
        for _ in range(_SAMPLES):
            start = time.thread_time()
            for origin in some:
                signature(origin)
            times.append(time.thread_time() - start)
        return min(times) * len(self._modules) / max(1, len(some))

    def _follow_script(self) -> None:
        """Take in what functions of the script import when they are called."""
        main = sys.modules.get("__main__")
        path = getattr(main, "__file__", None)
        if isinstance(path, str) and path.endswith(".py") and not is_installed(path):
            package = getattr(main, "__package__", None) or ""
            try:
                with open(path, "rb") as file:  # noqa: PTH123 - a path that may be of another system
                    source = file.read()
            except OSError:
                return
            self._follow(source, package)

    def _examine(self, name: str, spec: ModuleSpec | None) -> None:
        """Take in a module if it is the user's, and did not come here with a task."""
        if name not in bundle.active_names() and (origin := origin_of(name, spec)):
            assert spec is not None
            self._add(name, origin, is_package=spec.submodule_search_locations is not None)

    def _add(self, name: str, origin: str, *, is_package: bool) -> None:
        """Read a module's file, if it is there."""
        now = time.time_ns()
        found = signature(origin)
        try:
            with open(origin, "rb") as file:  # noqa: PTH123 - as above
                data = file.read()
        except OSError:
            return
        if found is not None and is_recent(found[0], now):
            found = None
        known = self._modules.get(name)
        self._modules[name] = _Module(origin, is_package, found, data)
        if known is not None and known.data == data:
            return
        self._dirty = True
        if origin.endswith(".py"):
            self._follow(data, name if is_package else name.rpartition(".")[0])

    def _follow(self, source: bytes, package: str) -> None:
        """Take in modules that a source imports, and that are not imported yet."""
        from manyhands._code.imports import imports_of  # noqa: PLC0415 - 5 ms with `ast`

        for name in imports_of(source, package):
            if name in self._modules or name in sys.modules or _is_foreign(name):
                continue
            self._examine(name, self._find(name))

    def _find(self, name: str) -> ModuleSpec | None:
        """Return the spec of a module, without importing what it is in."""
        parent, _, _ = name.rpartition(".")
        path: Any = None
        if parent:
            above = sys.modules.get(parent)
            path = getattr(above, "__path__", None)
            if above is None:
                found = self._find(parent)
                path = None if found is None else found.submodule_search_locations
            if path is None:
                return None
        try:
            return PathFinder.find_spec(name, path)
        except (ImportError, ValueError, AttributeError):
            return None

    # Making

    def _make(self) -> Function | None:
        files = {file.path: file for file in self._base or ()}
        for name, module in self._modules.items():
            path = path_in_bundle(name, module.origin, is_package=module.is_package)
            files[path] = bundle.File(path, module.origin[: bundle.MAX_PATH], module.data)
        self._files = list(files.values())
        return packed(self._files, None) if files else None


def packed(modules: list[bundle.File], around: bundle.Surroundings | None) -> Function:
    """Return a bundle as a function is sent.

    Raises:
        SubmitError: it is too large.
    """
    files = () if around is None else around.files
    try:
        payload = bundle.dump(modules, around)
    except ProtocolError as error:
        raise SubmitError(_too_much(error, [*modules, *files])) from None
    return Function(bundle.digest_of(payload), f"{len(modules) + len(files)} files", [payload])


def _too_much(error: ProtocolError, files: list[bundle.File | bundle.DataFile]) -> str:
    files.sort(key=lambda file: -len(file.data))
    largest = ", ".join(f"{file.path} ({len(file.data) >> 10} KiB)" for file in files[:_LARGEST])
    return (
        f"what the tasks need cannot travel: {error}. The largest are {largest}. Install modules "
        "on the nodes, or set MANYHANDS_CODE=0 where the nodes have them; pass large data as arguments"
    )


def _is_foreign(name: str) -> bool:
    """Whether a module is of a package that is imported, and not the user's."""
    top = name.partition(".")[0]
    spec = getattr(sys.modules.get(top), "__spec__", None)
    # A package without a file may have parts in many places.
    return spec is not None and spec.origin is not None and not origin_of(top, spec)


#: Of this process.
program = ProgramCode()
os.register_at_fork(after_in_child=program.forked)
