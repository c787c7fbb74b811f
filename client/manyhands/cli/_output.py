"""What goes where: results to stdout, everything else to stderr; colour only on terminals."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click

from manyhands_shared.text import LAYOUT, printable

#: Version of every JSON document that the command prints.
DOCUMENT_VERSION = 1
#: An array with more elements than this is shown, not spelled out as JSON.
MAX_JSON_ELEMENTS = 1_000_000
#: What of a message stands within a sentence.
_LINE_CHARS = 200
#: Bytes that are no text, as `os.fsdecode` has them.
_NO_TEXT = re.compile("([\udc80-\udcff]+)")
_NOT_PLAIN = re.compile(r"[^ -~]")


def say(text: str) -> None:
    """Print for people and programs, on stdout; nothing in `text` is a command to a terminal."""
    click.echo(printable(text, keep=LAYOUT))


def note(text: str) -> None:
    """Print for people, on stderr; nothing in `text` is a command to a terminal."""
    click.echo(printable(text, keep=LAYOUT), err=True)


def error(text: str) -> None:
    """Print the one line on stderr that says what went wrong, whatever `text` has in it."""
    click.echo(f"{style('error:', 'red')} {printable(' '.join(text.split()))}", err=True)
    sys.stderr.flush()


def in_short(text: str) -> str:
    """`text` in one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}…"


def raw(text: str) -> None:
    """Print what a task makes or runs, on stdout: as it is into a file or pipe, as `say` on a terminal.

    What stands in `text` for a byte that is no text, as in names of files, is that byte again.
    """
    if sys.stdout.isatty():
        text = printable(text, keep=LAYOUT)
    # What the stream's encoding lacks is escaped rather than an error after all the work.
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(
        b"".join(
            part.encode("ascii", "surrogateescape")
            if place % 2
            else part.encode(encoding, "backslashreplace")
            for place, part in enumerate(_NO_TEXT.split(text))
        )
    )


def document(**fields: Any) -> None:
    """Print one versioned JSON document. Bytes, as in digests, are written in hexadecimal."""
    click.echo(to_json({"version": DOCUMENT_VERSION, **fields}))


def to_json(value: Any) -> str:
    """Encode as JSON that has every character in it which can be seen, and escapes the others."""
    text = json.dumps(value, ensure_ascii=False, default=bytes.hex)
    return text if text.isprintable() else _NOT_PLAIN.sub(_escape, text)


def style(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """`text` in colour if `stream` (stderr if none is named) is a terminal that wants any."""
    target = stream if stream is not None else sys.stderr
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty()
    return text if plain else click.style(text, fg=colour, bold=True)


def is_live(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal on which a line can change."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


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


def json_entry(value: Any, *, allow_nan: bool = False) -> dict[str, Any]:
    """``{"result": …}`` where JSON can hold `value`, else ``{"repr": "…"}``.

    Tuples become arrays; NumPy numbers and arrays (up to `MAX_JSON_ELEMENTS`) become numbers and
    nested arrays. What JSON has no words for is never disguised as something else. `allow_nan`: NaN and
    the infinities are among its words, as in Python's `json`.
    """
    try:
        # The round trip drops what the default hook converted, once and here.
        text = json.dumps(value, default=_from_numpy, allow_nan=allow_nan)
    except (TypeError, ValueError, RecursionError):
        return {"repr": safe_repr(value)}
    return {"result": json.loads(text)}


def safe_repr(value: object) -> str:
    """`repr`, also of values whose `repr` raises."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's class
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _escape(found: re.Match[str]) -> str:
    """Write one character of a JSON text as it is if it can be seen, else as JSON escapes it."""
    char = found[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]


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
