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
from collections.abc import Iterator
from functools import lru_cache, partial
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
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_inside(program.directory))
            files = _Files(program, values, data, host, stack)
            with host.adopting():
                status = _run(program, values, files)
        except _NotStarted as error:
            facts |= {"exit": error.code, "seconds": time.monotonic() - began}
            raise ProgramFailed(str(error), facts) from None
        facts["seconds"] = time.monotonic() - began
        outputs = {
            name: _text(_whole(file.open(), name, facts)) for name, file in files.captured.items()
        }
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

    def __init__(
        self,
        program: Program,
        values: Values,
        data: bytes | None,
        host: ProgramHost,
        stack: contextlib.ExitStack,
    ) -> None:
        self._stack = stack
        #: Where the outputs are that come back with the result.
        self.captured: dict[str, ScratchFile] = {}
        out, err = (
            template.file_name(name, values) if name else ""
            for name in (program.stdout, program.stderr)
        )
        self.actions = [
            self._input(program, values, data),
            self._output("stdout", 1, out, host.stdout),
            (os.POSIX_SPAWN_DUP2, 1, 2)
            if err and err == out
            else self._output("stderr", 2, err, host.stderr),
        ]

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
            self._stack.callback(scratch.recycle)
            self.captured[stream] = scratch
            scratch.open()
            return scratch.action(place)
        # A new file: an attempt before this one, should it still run, writes to its own.
        with contextlib.suppress(OSError):
            if Path(name).is_file():
                Path(name).unlink()
        with contextlib.suppress(OSError):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        fd = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.POSIX_SPAWN_DUP2, fd, place

    def _open(self, name: str, flags: int) -> int:
        try:
            return self._own(os.open(name, flags | os.O_CLOEXEC, 0o666))
        except (OSError, ValueError) as error:
            raise _NotStarted(f"cannot open {name}", error) from None

    def _own(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd


def _run(program: Program, values: Values, files: _Files) -> int:
    """Start it and wait; its status."""
    try:
        arguments = program.arguments(values)
        environment = {**_environment(program), **_own_variables(values)}
        pid = _spawn(arguments, environment, files)
    except (OSError, ValueError) as error:
        raise _NotStarted(f"cannot start {program.words[0]}", error) from None
    return os.waitpid(pid, 0)[1]


def _spawn(arguments: list[str], environment: dict[str, str], files: _Files) -> int:
    path = _find(arguments[0], environment.get("PATH"))
    spawn = partial(os.posix_spawn, file_actions=files.actions, setsigmask=(), setsigdef=_DEFAULTS)
    try:
        return spawn(path, arguments, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a first line that names its interpreter.
        return spawn("/bin/sh", ["/bin/sh", path, *arguments[1:]], environment)


def _find(name: str, path: str | None) -> str:
    if "/" in name:
        return name
    found = _find_in_path(name, path)
    if found is None or not os.access(found, os.X_OK):
        _find_in_path.cache_clear()
        found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such program in PATH", name)
    return found


@lru_cache(maxsize=64)
def _find_in_path(name: str, path: str | None) -> str | None:
    return shutil.which(name, path=path)


_environments: dict[int, tuple[Program, dict[str, str]]] = {}


def _environment(program: Program) -> dict[str, str]:
    """The node's variables and those of the program, made once for its tasks."""
    known = _environments.get(id(program))
    if known is None or known[0] is not program:
        _environments.clear()
        known = _environments[id(program)] = (program, {**os.environ, **program.variables})
    return known[1]


def _own_variables(values: Values) -> dict[str, str]:
    own = {
        "MANYHANDS_TASK": values.task,
        "MANYHANDS_SEQ": str(values.number),
        "MANYHANDS_SLOT": str(values.slot),
    }
    if len(values.inputs) == 1 and len(values.inputs[0]) <= _MOST_INPUT:
        own["MANYHANDS_INPUT"] = values.inputs[0]
    return own


@contextlib.contextmanager
def _inside(directory: str) -> Iterator[None]:
    """Run the block in a directory, which must be there, and come back."""
    if not directory:
        yield
        return
    home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(directory)
        except (OSError, ValueError) as error:
            raise _NotStarted(f"cannot work in {directory} (--cwd names another)", error) from None
        yield
    finally:
        os.fchdir(home)
        os.close(home)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _whole(fd: int, name: str, facts: dict[str, Any]) -> bytes:
    """All of an output.

    Raises:
        ProgramFailed: it is too large.
    """
    size = os.fstat(fd).st_size
    if size > MAX_OUTPUT:
        raise ProgramFailed(
            f"the program ended, but its {name} of {size} bytes is more than the {MAX_OUTPUT} that "
            f"come back; write it to a file: --{name} 'out/%t.txt'",
            facts,
        )
    found = bytearray()
    while len(found) < size and (part := os.pread(fd, size - len(found), len(found))):
        found += part
    return bytes(found)


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
