"""The figures of a run as bars, in an SVG of its own: one panel a figure, logarithmic."""

from __future__ import annotations

import math
from html import escape

from bench.report import OURS, Run, less_is_better, number

_ROW, _PANEL_GAP, _LABEL, _BAR, _VALUE = 18, 34, 150, 220, 90
_WIDTH = _LABEL + _BAR + _VALUE
_COLUMNS = 2
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600}"
    ".bar{fill:#b8c0cc}.ours{fill:#d9622b}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.bar{fill:#5b6573}}"
)


def svg(run: Run) -> str:
    """The whole chart."""
    panels = [_panel(run, figure) for figure in run.names()]
    rows = [panels[at : at + _COLUMNS] for at in range(0, len(panels), _COLUMNS)]
    parts, y = [], 10
    for row in rows:
        for column, (body, _) in enumerate(row):
            parts.append(f'<g transform="translate({10 + column * (_WIDTH + 30)},{y})">{body}</g>')
        y += max(height for _, height in row) + _PANEL_GAP
    width = 20 + _COLUMNS * _WIDTH + (_COLUMNS - 1) * 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" '
        f'role="img" aria-label="manyhands and other systems, measured in one run">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _panel(run: Run, figure: str) -> tuple[str, int]:
    """One figure's bars, the best first, and how high they are together."""
    less = less_is_better(figure)
    values = [
        (value, name) for name in run.present if (value := run.median(name, figure)) is not None
    ]
    values.sort(reverse=not less)
    positive = [value for value, _ in values if value > 0]
    low, high = min(positive, default=1.0), max(positive, default=1.0)
    better = "less is better" if less else "more is better"
    parts = [f'<text class="title" y="12">{escape(figure)} ({better})</text>']
    for row, (value, name) in enumerate(values):
        y = 20 + row * _ROW
        kind = "ours" if name == OURS else "bar"
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{_LABEL}" y="{y + 2}" height="{_ROW - 5}" '
            f'width="{_length(value, low, high):.1f}"/>'
            f'<text x="{_LABEL + _length(value, low, high) + 6:.1f}" y="{y + 12}">'
            f"{number(value)}</text>"
        )
    return "".join(parts), 20 + len(values) * _ROW


def _length(value: float, low: float, high: float) -> float:
    """A tenth of the room for the smallest, all of it for the largest."""
    if value <= 0:
        return 1.0
    if low == high:
        return float(_BAR)
    share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return _BAR * (0.1 + 0.9 * share)
