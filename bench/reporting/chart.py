"""A run as a drawing: a panel for each of the figures that matter most, a dot for each system.

The scales are logarithmic, with a line at each power of ten. The best stands at the right of every
panel and at the top. The chart brings its own background, for light and for dark pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from bench.measures import FIRST
from bench.peers import PEERS
from bench.reporting.report import number
from bench.reporting.results import Run, less_is_better

#: Figure → its title, where it has another.
_TITLES = {
    "no-op tasks/s": "No-op tasks a second",
    "CPU per task, µs": "CPU of all processes per task, µs",
    "round trip p50, ms": "Round trip of a lone task, median ms",
    "map of 1,000,000, items/s": "Chunked map of a million, items a second",
    "1 MB results, MB/s": "1 MB array results, MB/s",
    "16 MB results, MB/s": "16 MB array results, MB/s",
    "128 MB results, MB/s": "128 MB array results, MB/s",
    "64 MB argument x 100 tasks, s": "64 MB argument of 100 tasks, seconds",
    FIRST: "First result from nothing, seconds",
    "idle memory, PSS MB": "Memory at rest, MB",
}
_ROW, _HEAD, _FOOT = 20, 34, 22
_LABEL, _PLOT, _VALUE, _GAP, _MARGIN, _TOP = 142, 190, 64, 36, 24, 70
_PANEL = _LABEL + _PLOT + _VALUE
_WIDTH = 2 * _PANEL + _GAP + 2 * _MARGIN
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
    ".page{fill:#fff;stroke:#d1d9e0}.head{font-size:16px;font-weight:600}"
    ".title{font-size:13px;font-weight:600}.quiet{fill:#656d76;font-size:11px}"
    ".value{paint-order:stroke;stroke:#fff;stroke-width:4px}"
    ".line{stroke:#e4e8ec}.stem{stroke:#c4ccd4;stroke-width:2}.ourstem{stroke:#d9541e;stroke-width:3}"
    ".dot{fill:#57708c;stroke:#57708c;stroke-width:2}.alone{fill:#fff;stroke:#57708c;stroke-width:2}"
    ".ours{fill:#d9541e}.name{font-weight:600;fill:#c2410c}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117;stroke:#3d444d}"
    ".value{stroke:#0d1117}.quiet{fill:#9198a1}.line{stroke:#262c34}.stem{stroke:#3d444d}"
    ".dot{fill:#8ba6c4;stroke:#8ba6c4}.alone{fill:#0d1117;stroke:#8ba6c4}"
    ".ours{fill:#f0883e}.ourstem{stroke:#f0883e}.name{fill:#f0883e}}"
)


def svg(run: Run) -> str:
    """The whole chart."""
    known = [figure for figure in _TITLES if figure in run.names()]
    panels = [_panel(run, figure) for figure in known]
    parts, y = [_heading(run)], _TOP
    for at in range(0, len(panels), 2):
        row = panels[at : at + 2]
        for column, (body, _) in enumerate(row):
            x = _MARGIN + column * (_PANEL + _GAP)
            parts.append(f'<g transform="translate({x},{y})">{body}</g>')
        y += max(height for _, height in row)
    y += _MARGIN - _FOOT // 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'role="img" aria-label="manyhands and other systems, measured in one run">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" x=".5" y=".5" width="{_WIDTH - 1}" height="{y - 1}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _heading(run: Run) -> str:
    """What this is, and what the dots mean."""
    where = run.environment
    repeats = f"medians of {run.repeats} repeats in turn" if run.repeats > 1 else "one repeat"
    words = (
        f"{where['workers']} workers on {where['cores']} cores, {repeats}; "
        "logarithmic scales, better to the right"
    )
    key = _WIDTH - _MARGIN
    return (
        f'<text class="head" x="{_MARGIN}" y="32">manyhands beside what you might use instead</text>'
        f'<text class="quiet" x="{_MARGIN}" y="51">{escape(words)}</text>'
        f'<circle class="dot" cx="{key - 176}" cy="28" r="4"/>'
        f'<text class="quiet" x="{key - 166}" y="32">works over a network</text>'
        f'<circle class="alone" cx="{key - 176}" cy="47" r="4"/>'
        f'<text class="quiet" x="{key - 166}" y="51">works on one machine only</text>'
    )


@dataclass(frozen=True)
class _Scale:
    """Where a value stands in a panel, by its logarithm: the best power of ten at the right."""

    low: int
    high: int
    less: bool

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return _LABEL + _PLOT * (1 - share if self.less else share)


def _panel(run: Run, figure: str) -> tuple[str, int]:
    """One figure's dots, the best first, and how high they are together."""
    less = less_is_better(figure)
    rows = [(value, name) for name in run.present if (value := run.median(name, figure))]
    rows.sort(reverse=not less)
    logs = [math.log10(value) for value, _ in rows]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    scale = _Scale(low, max(high, low + 1), less)
    bottom = _HEAD + len(rows) * _ROW
    better = "less is better" if less else "more is better"
    title = (
        f'<text class="title" y="14">{escape(_TITLES[figure])}<tspan class="quiet" dx="8" '
        f'font-weight="400">{better}</tspan></text>'
    )
    parts = [title]
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10.0**power)
        parts.append(
            f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD - 8}" y2="{bottom}"/>'
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 13}" text-anchor="middle">'
            f"{_power(power)}</text>"
        )
    for row, (value, name) in enumerate(rows):
        parts.append(_dot(name, value, scale, _HEAD + row * _ROW + 6))
    return "".join(parts), bottom + _FOOT + 14


def _dot(name: str, value: float, scale: _Scale, y: int) -> str:
    x, ours = scale.x(value), PEERS[name].ours
    kind = "ours" if ours else "dot" if PEERS[name].networked else "alone"
    emphasis = ' class="name"' if ours else ""
    return (
        f'<text{emphasis} x="{_LABEL - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        f'<line class="{"ourstem" if ours else "stem"}" x1="{_LABEL}" x2="{x:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="{5.5 if ours else 4}"/>'
        f'<text class="{"value name" if ours else "value"}" x="{x + 11:.1f}" y="{y + 4}">'
        f"{_short(value)}</text>"
    )


def _short(value: float) -> str:
    """Three digits, in few letters."""
    for letter, unit, least in (("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if value >= least:
            digits = f"{value / unit:.0f}" if value >= 100 * unit else f"{value / unit:.3g}"
            return digits + letter
    return number(value)


def _power(power: int) -> str:
    """A power of ten in few letters."""
    for letter, least in (("M", 6), ("k", 3)):
        if power >= least:
            return f"{10 ** (power - least)}{letter}"
    return f"{10.0**power:g}"
