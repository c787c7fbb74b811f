"""The rows of a table: taken from the broker's answers, filtered and sorted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from manyhands.cli._top.columns import JOBS, NODES, Column, Row, Table

#: Slots that are shown, those that ran something last.
MOST_SLOTS = 2_000
#: What a filter looks at.
_TEXTS = ("id", "name", "function", "state", "owner", "node", "job", "pressure", "version")


class Slots:
    """What each slot runs, or ran last."""

    def __init__(self) -> None:
        #: The number of the run that came last.
        self.seq = 0
        self._last: OrderedDict[tuple[str, int], Row] = OrderedDict()
        self._running: dict[tuple[str, int], Row] = {}

    def take(self, answer: Mapping[str, Any]) -> None:
        """Take the runs that the broker tells of."""
        if answer["seq"] < self.seq:
            # Another broker's numbers.
            self._last.clear()
        self.seq = answer["seq"]
        for run in answer["runs"]:
            row = dict(zip(answer["columns"], run, strict=True))
            slot = row["node"], row["slot"]
            row.update(id=f"{slot[0]}/{slot[1]}", ended=row["begun"] + row["seconds"])
            self._last[slot] = row
            self._last.move_to_end(slot)
        self._running = {}
        for one in answer["running"].values():
            row = dict(zip(answer["running_columns"], one, strict=True))
            slot = row["node"], row["slot"]
            row.update(id=f"{slot[0]}/{slot[1]}", ended=None, failed=False)
            self._running[slot] = {**row, "seconds": max(0.0, answer["now"] - row["begun"])}
        there = answer["slots"]
        for slot in [slot for slot in self._last if slot[1] >= there.get(slot[0], 0)]:
            del self._last[slot]
        while len(self._last) > MOST_SLOTS:
            self._last.popitem(last=False)

    def rows(self) -> list[Row]:
        """A row for each."""
        rows = {**self._last, **self._running}
        return [rows[slot] for slot in sorted(rows)]


def rows_of(table: Table, answer: Mapping[str, Any], slots: Slots) -> list[Row]:
    """The rows of an answer, in the order in which they are shown if nothing sorts them."""
    if table is JOBS:
        return _named(answer["job_columns"], answer["jobs"].items())
    if table is NODES:
        return _named(answer["node_columns"], sorted(answer["nodes"].items()))
    slots.take(answer)
    return slots.rows()


def chosen(rows: list[Row], words: str, column: Column | None, *, reverse: bool) -> list[Row]:
    """The rows that have `words` somewhere, sorted by `column` if there is one."""
    wanted = words.casefold()
    if wanted:
        rows = [row for row in rows if any(wanted in text.casefold() for text in _texts(row))]
    if column is not None:
        rows = sorted(rows, key=column.key, reverse=reverse)
    return rows[::-1] if column is None and reverse else rows


def _named(columns: list[str], rows: Iterable[tuple[str, list[Any]]]) -> list[Row]:
    return [{"id": name, **dict(zip(columns, row, strict=True))} for name, row in rows]


def _texts(row: Row) -> Iterable[str]:
    return (row[name] for name in _TEXTS if isinstance(row.get(name), str))
