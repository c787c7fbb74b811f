"""Charts as inline SVG: axes that end on round numbers, lines, columns. Colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from manyhands.loadtest.report import numbers

WIDTH, HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 16, 48
_TICKS = 5
#: What a letter of a label takes, about.
_LETTER = 7.5
_MOST_LETTERS = 16

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """From data to a share of the chart, 0 to 1.

    Attributes:
        title: with its unit.
        ticks: values that get a label, in order; the first and last are the ends.
        show: how a tick is written.
        scale: what is done to values first, such as a logarithm.
    """

    title: str
    ticks: Sequence[float]
    show: Callable[[float], str] = numbers.short
    scale: Callable[[float], float] = field(default=float)

    def at(self, value: float) -> float:
        """Where a value is; what lies outside is at the end."""
        low, high = self.scale(self.ticks[0]), self.scale(self.ticks[-1])
        share = (self.scale(value) - low) / (high - low) if high > low else 0.0
        return min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class Line:
    """A line through points; `mark` draws the points, `dashed` is for what is only imagined."""

    name: str
    points: Points
    mark: bool = True
    dashed: bool = False


def linear(
    title: str, values: Sequence[float], show: Callable[[float], str] = numbers.short
) -> Axis:
    """An axis from 0 to a round number above all values."""
    top = max([*values, 0.0]) or 1.0
    step = 10 ** math.floor(math.log10(top / _TICKS))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if step * factor * _TICKS >= top)
    count = math.ceil(top / step - 1e-9)
    return Axis(title, [round(number * step, 12) for number in range(count + 1)], show)


def logarithmic(title: str, values: Sequence[float], show: Callable[[float], str]) -> Axis:
    """An axis from a power of ten below all values, which are above 0, to one above."""
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)
    return Axis(title, [10.0**power for power in range(low, high + 1)], show, math.log10)


def nines(title: str, highest: float) -> Axis:
    """An axis of percentiles on which every nine is as wide as the last."""
    ticks = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999]
    shown = [tick for tick in ticks if tick < highest]
    shown.append(next((tick for tick in ticks if tick >= highest), ticks[-1]))
    return Axis(
        title, shown, lambda tick: f"{tick:g}", lambda percent: -math.log10(1 - percent / 100)
    )


def lines(x: Axis, y: Axis, series: Sequence[Line], about: str) -> str:
    """A chart of lines, with a legend if there are several."""
    drawn = [_line(number, line, x, y) for number, line in enumerate(series)]
    legend = _legend([(line.name, line.dashed) for line in series]) if len(series) > 1 else ""
    return _figure([*_axes(x, y), *drawn], about) + legend


def columns(names: Sequence[str], values: Sequence[float], y: Axis, about: str) -> str:
    """A chart of columns with a name each."""
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(names))
    parts = _grid(y)
    longest = min(max(map(len, names), default=0), _MOST_LETTERS)
    every = math.ceil(longest * _LETTER / width)
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        left = _LEFT + number * width
        top = _y(y, value)
        parts.append(
            f'<rect class="s0 fill" x="{left + width * 0.15:.1f}" y="{top:.1f}" '
            f'width="{width * 0.7:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}">'
            f"<title>{escape(name)}: {escape(y.show(value))}</title></rect>"
        )
        if number % every == 0:
            parts.append(
                _text(left + width / 2, HEIGHT - _BOTTOM + 18, name[:_MOST_LETTERS], "middle")
            )
    return _figure(parts, about)


def _line(number: int, line: Line, x: Axis, y: Axis) -> str:
    kind = f"s{number % 6}{' dashed' if line.dashed else ''}"
    spots = [(_x(x, at), _y(y, value)) for at, value in line.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in spots)
    parts = [f'<polyline class="{kind}" points="{path}"/>']
    if line.mark:
        parts += [
            f'<circle class="{kind} fill" cx="{left:.1f}" cy="{top:.1f}" r="3.5"><title>'
            f"{escape(line.name)}: {escape(y.show(value))} at {escape(x.show(at))}</title></circle>"
            for (left, top), (at, value) in zip(spots, line.points, strict=True)
        ]
    return "".join(parts)


def _axes(x: Axis, y: Axis) -> list[str]:
    parts = _grid(y)
    for tick in x.ticks:
        left = _x(x, tick)
        parts.append(
            f'<line class="tick" x1="{left:.1f}" x2="{left:.1f}" y1="{HEIGHT - _BOTTOM}" '
            f'y2="{HEIGHT - _BOTTOM + 4}"/>'
        )
        parts.append(_text(left, HEIGHT - _BOTTOM + 18, x.show(tick), "middle"))
    parts.append(_text((WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 8, x.title, "middle", "title"))
    return parts


def _grid(y: Axis) -> list[str]:
    parts = []
    for tick in y.ticks:
        top = _y(y, tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
        )
        parts.append(_text(_LEFT - 8, top + 4, y.show(tick), "end"))
    return parts


def _legend(names: Sequence[tuple[str, bool]]) -> str:
    items = [
        f'<span><svg viewBox="0 0 24 8" width="24" height="8" aria-hidden="true"><line '
        f'class="s{number % 6}{" dashed" if dashed else ""}" x1="0" x2="24" y1="4" y2="4"/></svg>'
        f"{escape(name)}</span>"
        for number, (name, dashed) in enumerate(names)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _figure(parts: Sequence[str], about: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(about)}">{inside}</svg>'
    )


def _text(left: float, top: float, text: str, anchor: str, kind: str = "label") -> str:
    return (
        f'<text class="{kind}" x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.at(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.at(value) * (HEIGHT - _TOP - _BOTTOM)
