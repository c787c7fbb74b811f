"""A load test's report as one page of HTML that needs nothing but itself, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from manyhands.loadtest.report import charts, tables

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2330; --soft: #667085;
  --line: #e4e5e0; --good: #0f7b53; --bad: #b42318; --s0: #2563a8; --s1: #d9822b; --s2: #22886a;
  --s3: #b3446c; --s4: #7b5ea7; --s5: #5f7d1e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171d; --card: #1b1f27; --ink: #e6e8ec;
  --soft: #98a2b3; --line: #2c323d; --good: #4cc38a; --bad: #ff7b72; --s0: #6aa9f0; --s1: #f0a75c;
  --s2: #5cc9a5; --s3: #e784a8; --s4: #b49be0; --s5: #a8c75a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 1.05rem; margin: 0 0 2px; }
p { margin: 0; } .about, .setting { color: var(--soft); font-size: .875rem; }
.verdict { margin: 20px 0; padding: 12px 16px; border-left: 4px solid var(--good);
  background: var(--card); border-radius: 4px; } .verdict.bad { border-color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 16px;
  margin: 0 0 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px; }
.figures strong { display: block; font-size: 1.75rem; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 16px; }
.charts > :last-child:nth-child(odd) { grid-column: 1 / -1; }
.charts > :last-child:nth-child(odd) .chart { max-height: 360px; }
section { margin-top: 16px; }
.chart { display: block; width: 100%; height: auto; margin-top: 10px; }
.chart text { font-size: 12px; fill: var(--soft); } .chart .title { font-size: 12.5px; }
.grid { stroke: var(--line); } .tick { stroke: var(--soft); }
polyline, .legend line { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; stroke-width: 1.5; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
.s0.fill { fill: var(--s0); } .s1.fill { fill: var(--s1); } .s2.fill { fill: var(--s2); }
.s3.fill { fill: var(--s3); } .s4.fill { fill: var(--s4); } .s5.fill { fill: var(--s5); }
rect.fill { stroke: none; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .8125rem; color: var(--soft); }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin-top: 10px;
  font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); } ul { margin: 6px 0 0; padding-left: 20px; }
@media print { body { background: none; } .card { break-inside: avoid; } }
"""


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
