"""Running one program as a task, in a pool child.

The program stays in the process group of its child. The node kills that group on a timeout, a cancel,
and its own end, whatever the program has started by then. What a program leaves running when it ends is
killed (see `program_host`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from manyhands_shared.coordination import pool_child
from manyhands_shared.errors import ProgramFailed
from manyhands_shared.programs import scratch_file, template
from manyhands_shared.programs.program import Program, program_of
from manyhands_shared.programs.program_host import ProgramHost
from manyhands_shared.programs.scratch_file import ScratchFile
from manyhands_shared.programs.template import Values

#: Exit codes of a shell for a program that cannot be started.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
#: What of an output comes back with the result.
MAX_OUTPUT = 256 << 20
#: Variables have a limit of 128 KiB each.
_MOST_INPUT = 100_000
_LAST_WORDS = 200
#: The program is not where it was found, or no longer one.
_GONE = (errno.ENOENT, errno.EACCES, errno.ENOTDIR)
#: Python ignores these, and a program would, too.
_DEFAULTS = [
    number for name in ("SIGPIPE", "SIGXFSZ") if (number := getattr(signal, name, None)) is not None
]


def run(text: str, number: int, task: str, data: bytes | None, *inputs: str) -> dict[str, Any]:
    """Run one program to its end.

    Args:
        text: a `Program`.
        number: the task's, from 1.
        task: its name in file names.
        data: its standard input; `None` for that of the program.
        inputs: what the replacement strings stand for.

    Returns:
        ``exit``, ``signal``, ``host``, ``slot``, ``start`` (seconds since 1970) and ``seconds``. Outputs
        that do not go to files are in ``stdout`` and ``stderr``: text, or bytes that are no UTF-8.

    Raises:
        ProgramFailed: it cannot be started, ends with another exit code than 0, or dies.
    """
    program = program_of(text)
    values = Values(number, task, inputs, pool_child.slot + 1)
    facts = {"exit": 0, "signal": 0, "host": _host(), "slot": values.slot, "start": time.time()}
    began = time.monotonic()
    host = ProgramHost.enter()
    files = _Files(host)
    try:
        try:
            if program.directory:
                _go_to(program.directory, host)
            files.open(program, values, data)
            status = _run(program, values, files, host)
        except _NotStarted as error:
            facts |= {"exit": error.code, "seconds": time.monotonic() - began}
            raise ProgramFailed(str(error), facts) from None
        facts["seconds"] = time.monotonic() - began
        outputs = {name: _text(_taken(file, name, facts)) for name, file in files.captured.items()}
    finally:
        files.close()
        if program.directory:
            host.go_home()
    code = os.waitstatus_to_exitcode(status)
    if code:
        facts |= {"exit": max(0, code), "signal": max(0, -code)}
        raise ProgramFailed(
            _how(code, program.command(values), outputs.get("stderr", "")),
            facts,
            outputs.get("stdout", ""),
            outputs.get("stderr", ""),
        )
    return {**facts, **outputs}


class _NotStarted(Exception):
    def __init__(self, what: str, error: OSError | ValueError) -> None:
        why = error.strerror if isinstance(error, OSError) else str(error)
        super().__init__(f"{what} on {_host()}: {why}")
        found = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
        self.code = NOT_FOUND if found else NOT_EXECUTABLE


class _Files:
    """The three streams of a program: what opens each, as `os.posix_spawn` takes it."""

    def __init__(self, host: ProgramHost) -> None:
        self._host = host
        self._opened: list[int] = []
        #: Files that were where outputs go: where each is until the program has started.
        self._aside: dict[str, str] = {}
        #: Where the outputs are that come back with the result.
        self.captured: dict[str, ScratchFile] = {}
        self.actions: list[tuple[Any, ...]] = []

    def open(self, program: Program, values: Values, data: bytes | None) -> None:
        """Open what the program reads and writes."""
        out, err = (
            _real(template.file_name(name, values)) if name else ""
            for name in (program.stdout, program.stderr)
        )
        self.actions = [
            self._input(program, values, data),
            self._output("stdout", 1, out, self._host.stdout),
            (os.POSIX_SPAWN_DUP2, 1, 2)
            if err and err == out
            else self._output("stderr", 2, err, self._host.stderr),
        ]

    def started(self) -> None:
        """The program runs: its outputs take the place of those that were there."""
        for aside in self._aside.values():
            _remove(aside)
        self._aside.clear()

    def close(self) -> None:
        """Close what was opened for this program alone; outputs that were not taken are dropped.

        If the program has not started, the files are there again that its outputs were to replace.
        """
        for name, aside in self._aside.items():
            with contextlib.suppress(OSError):
                os.replace(aside, name)  # noqa: PTH105 - as below
        for fd in self._opened:
            os.close(fd)
        for scratch in self.captured.values():
            scratch.drop()

    def _input(self, program: Program, values: Values, data: bytes | None) -> tuple[Any, ...]:
        if data is not None:
            fd = self._own(scratch_file.make())
            os.write(fd, data) if len(data) < 1 << 16 else _write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
        elif program.stdin:
            fd = self._open(template.file_name(program.stdin, values), os.O_RDONLY)
        else:
            return os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0
        return os.POSIX_SPAWN_DUP2, fd, 0

    def _output(self, stream: str, place: int, name: str, scratch: ScratchFile) -> tuple[Any, ...]:
        if not name:
            self.captured[stream] = scratch
            return scratch.action(place)
        # A new file: an attempt before this one, should it still run, writes to its own.
        with contextlib.suppress(OSError, ValueError):
            if Path(name).is_file():
                self._put_aside(name)
        with contextlib.suppress(OSError):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        fd = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.POSIX_SPAWN_DUP2, fd, place

    def _put_aside(self, name: str) -> None:
        aside = str(Path(name).parent / f".manyhands-{os.urandom(8).hex()}")
        os.rename(name, aside)  # noqa: PTH104 - a `Path` takes as long as the call
        self._aside[name] = aside

    def _open(self, name: str, flags: int) -> int:
        try:
            return self._own(os.open(name, flags | os.O_CLOEXEC, 0o666))
        except (OSError, ValueError) as error:
            raise _NotStarted(f"cannot open {name}", error) from None

    def _own(self, fd: int) -> int:
        self._opened.append(fd)
        return fd


def _real(name: str) -> str:
    """The name without links: to write through one leaves it as it is."""
    try:
        return os.path.realpath(name)
    except (OSError, ValueError):
        return name  # to open it says what is wrong


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108 - a `Path` takes as long as the call


def _run(program: Program, values: Values, files: _Files, host: ProgramHost) -> int:
    """Start it, wait for it, and kill what it leaves running; its status."""
    others = host.others()
    try:
        try:
            arguments = program.arguments(values)
            environment = {**_environment(program), **_own_variables(values)}
            pid = _spawn(arguments, environment, files.actions)
        except (OSError, ValueError) as error:
            raise _NotStarted(f"cannot start {program.words[0]}", error) from None
        files.started()
        return os.waitpid(pid, 0)[1]
    finally:
        host.kill_all_but(others)


def _spawn(
    arguments: list[str], environment: dict[bytes, bytes], actions: list[tuple[Any, ...]]
) -> int:
    name, path = arguments[0], environment.get(b"PATH")
    try:
        return _start(_find(name, path), arguments, environment, actions)
    except OSError as error:
        if "/" in name or error.errno not in _GONE:
            raise
    # It was elsewhere when it was looked for.
    _find.cache_clear()
    return _start(_find(name, path), arguments, environment, actions)


def _start(
    path: str, arguments: list[str], environment: dict[bytes, bytes], actions: list[tuple[Any, ...]]
) -> int:
    try:
        return os.posix_spawn(
            path, arguments, environment, file_actions=actions, setsigmask=(), setsigdef=_DEFAULTS
        )
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a first line that names its interpreter.
        return _start("/bin/sh", ["/bin/sh", path, *arguments[1:]], environment, actions)


@lru_cache(maxsize=64)
def _find(name: str, path: bytes | None) -> str:
    if "/" in name:
        return name
    found = shutil.which(name, path=None if path is None else os.fsdecode(path))
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such program in PATH", name)
    return found


_environments: dict[int, tuple[Program, dict[bytes, bytes]]] = {}


def _environment(program: Program) -> dict[bytes, bytes]:
    """The node's variables and those of the program, encoded once for its tasks."""
    known = _environments.get(id(program))
    if known is None or known[0] is not program:
        _environments.clear()
        own = {os.fsencode(name): os.fsencode(text) for name, text in program.variables.items()}
        known = _environments[id(program)] = (program, {**os.environb, **own})
    return known[1]


def _own_variables(values: Values) -> dict[bytes, bytes]:
    own = {
        b"MANYHANDS_TASK": os.fsencode(values.task),
        b"MANYHANDS_SEQ": b"%d" % values.number,
        b"MANYHANDS_SLOT": b"%d" % values.slot,
    }
    if len(values.inputs) == 1:
        text = os.fsencode(values.inputs[0])
        if len(text) <= _MOST_INPUT:
            own[b"MANYHANDS_INPUT"] = text
    return own


def _go_to(directory: str, host: ProgramHost) -> None:
    try:
        host.go_to(directory)
    except (OSError, ValueError) as error:
        raise _NotStarted(f"cannot work in {directory} (--cwd names another)", error) from None


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _taken(file: ScratchFile, name: str, facts: dict[str, Any]) -> bytes:
    """All of an output.

    Raises:
        ProgramFailed: it is too large.
    """
    try:
        return file.take(MAX_OUTPUT)
    except OverflowError as error:
        raise ProgramFailed(
            f"the program ended, but its {name} of {error.args[0]} bytes is more than the {MAX_OUTPUT} "
            f"that come back; write it to a file: --{name} 'out/%t.txt'",
            facts,
        ) from None


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _how(code: int, command: str, errors: str | bytes) -> str:
    """How it ended, what it was, and the last line that it printed."""
    how = f"exit code {code}" if code > 0 else f"died of {_name(-code)}"
    shown = errors if isinstance(errors, str) else errors.decode(errors="replace")
    lines = shown.strip().splitlines()
    last = f" ({lines[-1][-_LAST_WORDS:].strip()})" if lines else ""
    return f"{how}: {command[:_LAST_WORDS]}{last}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()
