"""JSON lines in and out, as `map` reads and writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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


def open_output(sink: IO[str], source: IO[str]) -> None:
    """Open a lazy `sink`, now that the input was read and before any work is done.

    Raises:
        ConfigError: it is the very file that the input came from.
    """
    if _same(sink.name, source.name) and Path(source.name).is_file():
        raise ConfigError(f"{source.name} is the input; name another file for the output")
    sink.write("")


def write_line(sink: IO[str], entry: dict[str, Any]) -> None:
    """One line, at once: an interrupted run leaves every result that it had."""
    sink.write(json.dumps(entry, ensure_ascii=False) + "\n")
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
