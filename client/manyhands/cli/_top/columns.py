"""The tables of `manyhands top`: their columns. All text in them is fit for a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from manyhands_shared.text import printable

#: What is known of a job, a node or a slot, by the name of the figure; its name is ``id``.
Row = Mapping[str, Any]

_GIB = 1 << 30
#: Characters of an id: enough to name a job with.
ID_CHARS = 8
#: What a job has ended as.
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        title: its heading.
        width: in cells; 0 takes what the others leave.
        cell: what stands in it.
        key: what it is sorted by.
        wide: whether a terminal of 80 columns has no room for it.
        right: whether its cells are numbers, which stand to the right.
    """

    title: str
    width: int
    cell: Callable[[Row], str]
    key: Callable[[Row], Any]
    wide: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Args:
        name: as people read it.
        view: where its rows come from.
        columns: of a row.
        empty: what to do as long as there is no row.
        seconds: between two looks.
    """

    name: str
    view: str
    columns: tuple[Column, ...]
    empty: str
    seconds: float

    def chosen(self, width: int) -> list[tuple[Column, int]]:
        """The columns that a line of `width` cells has room for, with how wide they are."""
        columns = [column for column in self.columns if width >= _WIDE or not column.wide]
        left = width - sum(column.width for column in columns) - len(columns) + 1
        return [(column, column.width or max(_NARROWEST, left)) for column in columns]


_WIDE = 100
_NARROWEST = 8


def compact(count: float | None) -> str:
    """A number in five cells at most: ``999``, ``12.3k``, ``4.56M``."""
    if count is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return (
                f"{count / size:.3g}{unit}" if count < 999.5 * size else f"{count / size:.0f}{unit}"
            )
    return f"{count:.3g}" if count < 100 and count % 1 else f"{count:.0f}"


def duration(seconds: float | None) -> str:
    """A time in six cells at most: ``12ms``, ``3.1s``, ``5m``, ``2h``, ``9d``."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds * 1e3:.0f}ms"


def _gib(size: float) -> str:
    return f"{size / _GIB:.{1 if size < 100 * _GIB else 0}f}G"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: printable(str(row[name]))


def _number(name: str, shown: Callable[[Any], str] = compact) -> Callable[[Row], str]:
    return lambda row: shown(row[name])


def _by(name: str) -> Callable[[Row], Any]:
    def key(row: Row) -> Any:
        value = row[name]
        if value is None:
            return -1.0
        return value.casefold() if isinstance(value, str) else value

    return key


def _words(title: str, width: int, name: str, *, wide: bool = False) -> Column:
    return Column(title, width, _text(name), _by(name), wide)


def _figure(
    title: str, width: int, name: str, shown: Callable[[Any], str] = compact, *, wide: bool = False
) -> Column:
    return Column(title, width, _number(name, shown), _by(name), wide, right=True)


JOBS = Table(
    "Jobs",
    "jobs",
    (
        Column("ID", ID_CHARS, lambda row: printable(row["id"][:ID_CHARS]), _by("id")),
        _words("NAME", 0, "name"),
        _words("STATE", 9, "state"),
        _figure("DONE", 6, "done"),
        _figure("OF", 6, "tasks"),
        _figure("ACT", 5, "active"),
        _figure("FAIL", 5, "failed"),
        _figure("RATE", 6, "rate", lambda rate: compact(rate) if rate else "-"),
        _figure("LEFT", 6, "eta", duration),
        _figure("QUEUED", 7, "queued", wide=True),
        _words("OWNER", 10, "owner", wide=True),
        _figure("SINCE", 8, "submitted", _clock, wide=True),
    ),
    "No job yet. Submit one: manyhands submit math:factorial --input numbers.jsonl",
    1.0,
)
NODES = Table(
    "Nodes",
    "nodes",
    (
        _words("NAME", 0, "id"),
        _words("STATE", 9, "state"),
        Column("BUSY", 8, lambda row: f"{row['busy']}/{row['slots']}", _by("busy"), right=True),
        _figure("ACT", 5, "active"),
        _figure("CPU", 5, "cpu", lambda cores: f"{cores:.1f}"),
        _figure("RSS", 6, "rss", _gib),
        _figure("FREE", 6, "available", _gib),
        _figure("LOAD", 5, "load", lambda load: f"{load:.1f}"),
        _words("PRESSURE", 9, "pressure"),
        _figure("DONE", 6, "done"),
        _words("VERSION", 9, "version", wide=True),
    ),
    "No node yet. Start one: manyhands worker --broker ADDRESS",
    2.0,
)
SLOTS = Table(
    "Slots",
    "stream",
    (
        _words("NODE", 16, "node"),
        Column(
            "SLOT",
            5,
            lambda row: str(row["slot"]),
            lambda row: (row["node"], row["slot"]),
            right=True,
        ),
        _words("RUNS OR RAN", 0, "function"),
        Column("JOB", ID_CHARS, lambda row: printable(row["job"][:ID_CHARS]), _by("job")),
        _figure("TASK", 8, "first", str),
        _figure("TOOK", 6, "seconds", duration),
        _figure("ENDED", 8, "ended", lambda at: "runs" if at is None else _clock(at)),
        Column("", 6, lambda row: "failed" if row["failed"] else "", lambda row: row["failed"]),
    ),
    "No task has run lately. Nodes tell of a sample of the tasks that they ran.",
    1.0,
)
TABLES = (JOBS, NODES, SLOTS)
