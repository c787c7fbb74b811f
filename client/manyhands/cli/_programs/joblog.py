"""The log of programs that have ended, in GNU parallel's format, so that either can go on with it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import IO, TYPE_CHECKING

from manyhands.cli._bitmap import Bitmap
from manyhands_shared.errors import ConfigError

if TYPE_CHECKING:
    from manyhands.cli._programs.ending import Ending

_HEADINGS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal")
HEADER = "\t".join((*_HEADINGS, "Command")) + "\n"
_TORN = re.compile(r"\d+(\t.*)?", re.DOTALL)
_LINE = re.compile(r"(\d+)(?:\t[^\t]+){5}\t(-?\d+)\t(-?\d+)\t(.*)\n", re.DOTALL)


class Done(Bitmap):
    """Which tasks are in a log, and what they ran."""

    def __init__(self) -> None:
        super().__init__()
        #: Bytes of all whole lines.
        self.size = 0
        #: What the first tasks of the log ran, to be compared.
        self.commands: dict[int, str] = {}


#: Commands of a log that are compared with those of the run that goes on with it.
_COMPARED = 1_000
#: A number beyond it is none of a task's.
_MOST = 1_000_000_000


def read(path: Path, *, failed_again: bool) -> Done:
    """Read a log; a last line that was torn off does not count.

    Raises:
        ConfigError: it is no such log.
    """
    done = Done()
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n") and _begins_line(line):
                    break
                done.size += len(line.encode("utf-8", "surrogateescape"))
                if line == HEADER:
                    continue
                match = _LINE.fullmatch(line)
                if match is None or int(match[1]) > _MOST:
                    raise ConfigError(
                        f"line {number} of {path} is not of a job log; name the log to go on with"
                    )
                task = int(match[1])
                failed = match[2] != "0" or match[3] != "0"
                done.set(task, on=not (failed and failed_again))
                if len(done.commands) < _COMPARED:
                    done.commands[task] = match[4].replace("\0", "\n")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    return done


def _begins_line(torn: str) -> bool:
    """Whether this may be the beginning of a line of a log; else the file is another one."""
    return HEADER.startswith(torn) or _TORN.fullmatch(torn) is not None


def same_command(one: str, other: str) -> bool:
    """Whether two lines run the same, however each is quoted."""
    if one == other:
        return True
    try:
        return shlex.split(one) == shlex.split(other)
    except ValueError:
        return False


def open_log(path: Path, done: Done | None) -> IO[str]:
    """Open a log for more lines: behind those that are there, or as a new one.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        file = path.open(
            "a" if done is not None else "w", encoding="utf-8", errors="surrogateescape"
        )
        if done is not None:
            file.truncate(done.size)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    if done is None or not done.size:
        file.write(HEADER)
        file.flush()
    return file


def line(number: int, ending: Ending, command: str) -> str:
    """The line of one task."""
    start, seconds = f"{ending.start:.3f}", f"{ending.seconds:10.3f}"
    fields = (number, ending.host, start, seconds, 0, ending.received, ending.code, ending.signal)
    return "\t".join(map(str, (*fields, command.replace("\n", "\0")))) + "\n"
