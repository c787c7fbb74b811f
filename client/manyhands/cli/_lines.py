"""JSON lines in and out, as `map` reads and writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from manyhands.cli import _output
from manyhands_shared.errors import ConfigError

#: Positional and keyword arguments of one call.
Call = tuple[tuple[Any, ...], dict[str, Any]]


def read_calls(source: IO[str], *, star: bool) -> Iterator[Call]:
    """One call for each line that is not blank; with `star`, arrays and objects are spread.

    Raises:
        ConfigError: a line is not JSON, or cannot be spread; it names the line.
    """
    number = 0
    try:
        for line in source:
            number += 1
            if line.strip():
                yield _call(json.loads(line), star=star)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source.name} is not UTF-8, behind line {number}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"line {number} of {source.name}: {error}; write one JSON value a line"
        ) from None


def check_output(sink: IO[str], source: IO[str], *, may_hold: bool) -> None:
    """See whether a lazy `sink` can be opened later, without any change to what is there.

    Raises:
        ConfigError: it is the very file that the input came from, or cannot be written, or it holds
            something and must not (`may_hold`).
    """
    path = Path(sink.name)
    if sink.name == "-":
        return
    if _same(sink.name, source.name) and path.is_file():
        raise ConfigError(f"{source.name} is the input; name another file for the output")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"cannot write to {path}; name another file for the output")
    if path.is_file() and path.stat().st_size and not may_hold:
        raise ConfigError(
            f"{path} is not empty; go on with it by --resume, replace it by --overwrite, or name "
            "another file"
        )


def appended(path: Path, whole: int) -> IO[str]:
    """Open the output of an interrupted run for more lines, behind its first `whole` bytes."""
    file = path.open("a", encoding="utf-8")
    file.truncate(whole)
    return file


def read_output(path: Path, count: int) -> tuple[set[int], int]:
    """Read the output of an interrupted run.

    An item's last line counts. What was torn off in the middle of the last line does not.

    Returns:
        The items that need not run again; the bytes of all whole lines.

    Raises:
        ConfigError: it is no output of such a run, or not of this one.
    """
    done: set[int] = set()
    end = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                index, failed = _outcome(line, number, path)
                if index >= count:
                    raise ConfigError(
                        f"line {number} of {path} is about item {index}, and there are {count}; "
                        "is it the output of another input?"
                    )
                (done.discard if failed else done.add)(index)
                end += len(line)
    except FileNotFoundError:
        return set(), 0
    return done, end


def _outcome(line: bytes, number: int, path: Path) -> tuple[int, bool]:
    try:
        entry = json.loads(line)
        index, failed = entry["index"], "error" in entry
    except (ValueError, TypeError, KeyError):
        index, failed = -1, False
    if type(index) is not int or index < 0:
        raise ConfigError(
            f"line {number} of {path} is not a line of `manyhands map`; name its output"
        )
    return index, failed


def write_line(sink: IO[str], entry: dict[str, Any]) -> None:
    """One line, at once: an interrupted run leaves every result that it had."""
    sink.write(_output.to_json(entry) + "\n")
    sink.flush()


def _call(item: Any, *, star: bool) -> Call:
    if not star:
        return (item,), {}
    if isinstance(item, list):
        return tuple(item), {}
    if isinstance(item, dict):
        return (), item
    raise ValueError("neither an array nor an object, and --star spreads those")


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
