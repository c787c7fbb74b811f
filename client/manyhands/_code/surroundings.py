"""What a job asks for beside the program's modules: data files, variables, a working directory.

They travel in the job's bundle, with the modules. So a pool child that has them runs the tasks of such
jobs alone, and tasks of other jobs find nothing of it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands._code.file_state import is_recent, signature
from manyhands._code.program import PAUSE_FACTOR, PAUSE_SECONDS, ProgramCode, packed, program
from manyhands_shared.errors import ConfigError, ProtocolError, SubmitError
from manyhands_shared.payloads import bundle
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import Function


@dataclass(frozen=True)
class Wanted:
    """The options `files`, `environment` and `working_dir` of a job, checked.

    - `files`: places in the tasks' working directory, and where the files or folders are here.
    - `environment`: names and values.
    - `directory`: on the nodes; empty: not given.
    """

    files: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    directory: str


@dataclass(frozen=True, slots=True)
class AskedOptions(JobOptions):
    """The options of a job that travel, and what its bundle is to hold beside the modules.

    - `labels`: what nodes need beside what the function says of them.
    """

    wanted: Wanted | None = None
    labels: tuple[str, ...] = ()


def wanted(
    files: Any, environment: Any, working_dir: str | os.PathLike[str] | None
) -> Wanted | None:
    """Check these options of a job; None if they ask for nothing.

    Raises:
        ConfigError: one of them cannot be; the text says why.
    """
    places = _places(files)
    pairs = _pairs(environment)
    directory = "" if working_dir is None else os.fspath(working_dir)
    if places and directory:
        raise ConfigError("files come into a directory of their own: leave out working_dir")
    if not (places or pairs or directory):
        return None
    try:
        # All but the files, which are read with the first task.
        bundle.check_surroundings(bundle.Surroundings((), dict(pairs), directory))
    except ProtocolError as error:
        raise ConfigError(str(error)) from None
    return Wanted(places, pairs, directory)


def code_of(asked: Wanted | None) -> ProgramCode | SurroundedCode:
    """Return what gives the bundle for a task that is submitted now."""
    return program if asked is None else SurroundedCode(asked)


class SurroundedCode:
    """The bundle of jobs that ask for more than modules. It is made anew when a file has changed."""

    def __init__(self, asked: Wanted) -> None:
        self._asked = asked
        self._lock = threading.RLock()
        self._until = 0.0
        self._modules: Function | None = None
        self._states: dict[str, Any] = {}
        self._function: Function | None = None

    def current(self) -> Function:
        """Return the bundle as it was at the last look, which is a moment ago at most.

        Raises:
            SubmitError: it is too large, or a file is gone.
        """
        modules = program.current()
        known = self._function
        if known is not None and modules is self._modules and time.monotonic() < self._until:
            return known
        return self._renew(modules)

    def renew(self) -> Function:
        """Return the bundle as the files are now. Raises as `current` does."""
        return self._renew(program.renew())

    def _renew(self, modules: Function | None) -> Function:
        with self._lock:
            known = self._function
            start = time.thread_time()
            found = dict(_walk(self._asked.files))
            states = {path: _state(path) for path in found.values()}
            looked = time.thread_time() - start
            if known is None or states != self._states or modules is not self._modules:
                made = self._make(found)
                # What is kept for a bundle is kept for this object.
                if known is None or made.digest != known.digest:
                    known = made
                self._function, self._modules, self._states = known, modules, states
            self._until = time.monotonic() + max(PAUSE_SECONDS, PAUSE_FACTOR * looked)
            return known

    def _make(self, found: Mapping[str, str]) -> Function:
        files = [_read(place, path) for place, path in found.items()]
        around = bundle.Surroundings(files, dict(self._asked.environment), self._asked.directory)
        return packed(program.files, around)


def _places(files: Any) -> tuple[tuple[str, str], ...]:
    """Return where each file or folder is to be, and where it is here."""
    if isinstance(files, str | os.PathLike):
        files = [files]
    if isinstance(files, Mapping):
        given = [(os.fspath(place), Path(path)) for place, path in files.items()]
    elif isinstance(files, Iterable):
        given = [(_place(Path(path)), Path(path)) for path in files]
    elif files is None:
        given = []
    else:
        raise ConfigError(f"files takes paths, or a mapping of places to paths, not {files!r:.80}")
    for _, path in given:
        try:
            is_there = path.exists()
        except OSError as error:
            raise ConfigError(
                f"files names {str(path)!r:.200}, which cannot be read: {error.strerror}"
            ) from None
        if not is_there:
            raise ConfigError(f"files names {str(path)!r:.200}, which is not there")
    # A later `chdir` of the program changes nothing.
    return tuple((place, str(path.absolute())) for place, path in given)


def _place(path: Path) -> str:
    """Return where tasks find a file: by the same relative path, else by its name."""
    if path.is_absolute() or ".." in path.parts:
        return path.name
    return path.as_posix()


def _pairs(environment: Any) -> tuple[tuple[str, str], ...]:
    if environment is None:
        return ()
    if not isinstance(environment, Mapping):
        raise ConfigError(
            "environment takes a mapping of names to texts, or Requirements, "
            f"not {environment!r:.80}"
        )
    for name, value in environment.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ConfigError(
                f"environment has {name!r:.80}: {value!r:.80}; names and values are texts"
            )
    return tuple(sorted(environment.items()))


def _walk(places: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Name every file: its place with the tasks, and its path here."""
    for place, path in places:
        if not os.path.isdir(path):  # noqa: PTH112 - as text, like all here
            yield place, path
            continue
        for folder, _, names in os.walk(path):
            inside = Path(folder).relative_to(path)
            for name in names:
                yield (Path(place) / inside / name).as_posix(), os.path.join(folder, name)  # noqa: PTH118


def _state(path: str) -> Any:
    """Return what is another thing once a file has changed, or may have."""
    found = signature(path)
    return object() if found is None or is_recent(found[0], time.time_ns()) else found


def _read(place: str, path: str) -> bundle.DataFile:
    try:
        # A pipe would be waited for, and a device may have no end.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as text
            raise SubmitError(f"the file {path} of the tasks is no file, but a pipe or a device")
        with open(path, "rb") as file:  # noqa: PTH123 - as text
            data = file.read()
        return bundle.DataFile(place, os.access(path, os.X_OK), data)
    except OSError as error:
        raise SubmitError(
            f"the file {path} of the tasks cannot be read: {error.strerror}"
        ) from None
