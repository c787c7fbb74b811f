"""A load test's report as one page of HTML that needs nothing but itself, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import Any

from manyhands.loadtest.report import charts, tables

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def render(document: dict[str, Any], comparison: tables.Table | None = None) -> str:
    """The whole page. All text is escaped; the policy forbids scripts and everything from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    drawn = "".join(
        f'<div class="card"><h2>{escape(chart.title)}</h2><p class="about">{escape(chart.about)}</p>'
        f"{chart.drawing}</div>"
        for chart in charts.charts(document)
    )
    shown = list(tables.tables(document))
    written = "".join(map(_table, [comparison, *shown] if comparison else shown))
    bad = " bad" if document["problem"] else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Load test: {escape(document['plan']['mix'])}</title><style>{_STYLE}</style></head>"
        f'<body><main><h1>Load test</h1><p class="setting">{escape(tables.setting(document))}</p>'
        f'<p class="verdict{bad}">{escape(tables.verdict(document))}</p>{_figures(document)}'
        f'<div class="charts">{drawn}</div>{written}{_notes(document["notes"])}</main></body></html>\n'
    )


def _figures(document: dict[str, Any]) -> str:
    cards = "".join(
        f'<div class="card"><span class="about">{escape(what)}</span>'
        f'<strong>{escape(value)}</strong><span class="about">{escape(remark)}</span></div>'
        for what, value, remark in tables.headline(document)
    )
    return f'<div class="figures">{cards}</div>'


def _table(table: tables.Table) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in table.rows
    )
    return (
        f'<section class="card"><h2>{escape(table.title)}</h2>'
        f'<p class="about">{escape(table.about)}</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _notes(notes: list[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section class="card"><h2>To know</h2><ul>{items}</ul></section>'
