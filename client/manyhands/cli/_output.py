"""What goes where: results to stdout, everything else to stderr; colour only on terminals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click

#: Version of every JSON document that the command prints.
DOCUMENT_VERSION = 1
#: An array with more elements than this is shown, not spelled out as JSON.
MAX_JSON_ELEMENTS = 1_000_000


def note(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(text, err=True)


def document(**fields: Any) -> None:
    """One versioned JSON document, on stdout. Bytes, as in digests, are written in hexadecimal."""
    click.echo(
        json.dumps({"version": DOCUMENT_VERSION, **fields}, ensure_ascii=False, default=bytes.hex)
    )


def style(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """`text` in colour if `stream` (stderr if none is named) is a terminal that wants any."""
    target = stream if stream is not None else sys.stderr
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty()
    return text if plain else click.style(text, fg=colour, bold=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns on stdout; numbers to the right. Wide tables are not cut: a pipe may read them."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(cells) and all(_is_number(row[column]) for row in cells)
        for column in range(len(headings))
    ]
    lines = [[heading.upper() for heading in headings], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        padded = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def json_entry(value: Any) -> dict[str, Any]:
    """``{"result": …}`` where JSON can hold `value`, else ``{"repr": "…"}``.

    Tuples become arrays; NumPy numbers and arrays (up to `MAX_JSON_ELEMENTS`) become numbers and
    nested arrays. What JSON has no words for, NaN included, is never disguised as something else.
    """
    try:
        # The round trip drops what the default hook converted, once and here.
        text = json.dumps(value, allow_nan=False, default=_from_numpy)
    except (TypeError, ValueError, RecursionError):
        return {"repr": safe_repr(value)}
    return {"result": json.loads(text)}


def safe_repr(value: object) -> str:
    """`repr`, also of values whose `repr` raises."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's class
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def printable(text: str) -> str:
    """`text` without control characters: names come from other people and go to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _from_numpy(value: Any) -> Any:
    is_numpy = type(value).__module__.partition(".")[0] == "numpy"
    if is_numpy and hasattr(value, "tolist") and getattr(value, "size", 1) <= MAX_JSON_ELEMENTS:
        return value.tolist()
    raise TypeError(type(value).__name__)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None or value == "" else printable(str(value))


def _is_number(text: str) -> bool:
    return text == "-" or text[:1].isdigit()
