"""A load test's report in markdown."""

from __future__ import annotations

from typing import Any

from manyhands.loadtest.report import tables


def render(document: dict[str, Any], comparison: tables.Table | None = None) -> str:
    """The whole page."""
    parts = [
        "# Load test",
        f"**{_cell(tables.verdict(document))}**",
        _cell(tables.setting(document)),
    ]
    figures = tables.headline(document)
    parts.append(
        "\n".join(f"- {what}: **{value}** ({_cell(remark)})" for what, value, remark in figures)
    )
    shown = list(tables.tables(document))
    for table in [comparison, *shown] if comparison else shown:
        parts += [f"## {_cell(table.title)}", _cell(table.about), _table(table)]
    if document["notes"]:
        parts += ["## To know", "\n".join(f"- {note}" for note in document["notes"])]
    return "\n\n".join(parts) + "\n"


def _table(table: tables.Table) -> str:
    lines = [
        "| " + " | ".join(table.headings) + " |",
        "|---|" + "---:|" * (len(table.headings) - 1),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows),
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Names come from other people: no markup, no line ends, no table of their own."""
    plain = " ".join(text.split())
    for char in "\\|<>`*_[":
        plain = plain.replace(char, f"\\{char}")
    return plain
