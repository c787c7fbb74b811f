"""`manyhands top` where there is no terminal: the tables once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands.cli import _output
from manyhands.cli._top import summary
from manyhands.cli._top.columns import TABLES
from manyhands.cli._top.rows import Slots, rows_of

if TYPE_CHECKING:
    from manyhands import Client


def print_once(client: Client, *, json: bool) -> None:
    """Print the figures and all tables, or one document."""
    health = client.query("health")
    answers = {table.view: client.query("view", view=table.view) for table in TABLES}
    rows = {table.name: rows_of(table, answers[table.view], Slots()) for table in TABLES}
    if json:
        _output.document(
            cluster=health,
            **{name.lower(): [dict(row) for row in found] for name, found in rows.items()},
        )
        return
    _output.say(summary.figures(health) + summary.rate(answers["jobs"]))
    for table in TABLES:
        if rows[table.name]:
            _output.say("")
            columns = [column for column in table.columns if column.title]
            _output.table(
                [column.title for column in columns],
                [[column.cell(row) for column in columns] for row in rows[table.name]],
            )
