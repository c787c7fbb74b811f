"""A flame graph as an SVG file that needs no script: the outermost calls are at the bottom.

The width of a box says how often a function was found there. A browser shows the whole name, the file
and the share of a box under the pointer.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

from manyhands_shared.text import amount, printable

if TYPE_CHECKING:
    from manyhands_shared.profiling.stacks import Frame

_WIDTH, _ROW, _HEAD = 1_200, 18, 30
#: A letter takes so much; narrower boxes than the least are left out.
_LETTER, _LEAST = 6.6, 0.3
_HUES = 40
_STYLE = (
    "text{font:12px monospace;fill:#1b1b1b}.h{font:bold 14px sans-serif}"
    "rect{stroke:#fff;stroke-width:.5}@media(prefers-color-scheme:dark){.h{fill:#eee}"
    "svg{background:#16181d}rect{stroke:#16181d}}"
)


@dataclass(slots=True)
class _Box:
    """A call within the calls below it."""

    count: int = 0
    above: dict[Frame, _Box] = field(default_factory=dict)


def draw(title: str, counts: Counter[tuple[Frame, ...]]) -> str:
    """Return the SVG document for stacks and how often each was found."""
    root = _Box()
    for frames, count in counts.items():
        box = root
        box.count += count
        for frame in frames:
            box = box.above.setdefault(frame, _Box())
            box.count += count
    boxes = list(_boxes(root, 0.0, 0, _WIDTH / max(1, root.count)))
    height = _HEAD + _ROW * (1 + max((depth for *_, depth in boxes), default=0)) + 6
    drawn = "".join(_drawn(box, root.count, height) for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">'
        f"<style>{_STYLE}</style>"
        f'<text class="h" x="6" y="20">{_clean(title)}</text>{drawn}</svg>\n'
    )


def _boxes(
    below: _Box, left: float, depth: int, scale: float
) -> Iterator[tuple[Frame, int, float, float, int]]:
    """Yield the calls above one: function, count, left edge, width, depth."""
    waiting = [(below, left, depth)]
    while waiting:
        box, at, level = waiting.pop()
        for frame, one in box.above.items():
            width = one.count * scale
            if width >= _LEAST:
                yield frame, one.count, at, width, level
                waiting.append((one, at, level + 1))
            at += width


def _drawn(box: tuple[Frame, int, float, float, int], total: int, height: int) -> str:
    frame, count, left, width, depth = box
    top = height - (depth + 1) * _ROW - 4
    hue = zlib.crc32(f"{frame.name} {frame.file}".encode()) % _HUES
    words = f"{frame.name} ({PurePath(frame.file).name})"
    told = f"{frame.name}, {frame.file}: {amount(count, 'look')}, {100 * count / total:.1f} %"
    letters = int((width - 6) / _LETTER)
    text = words if len(words) <= letters else words[: max(0, letters - 1)] + "…"
    label = f'<text x="{left + 3:.1f}" y="{top + 13}">{_clean(text)}</text>' if letters > 2 else ""
    return (
        f"<g><title>{_clean(told)}</title>"
        f'<rect x="{left:.2f}" y="{top}" width="{width:.2f}" height="{_ROW}" '
        f'fill="hsl({10 + hue} 85% 68%)"/>{label}</g>'
    )


def _clean(text: str) -> str:
    return escape(printable(text.encode("utf-8", "replace").decode()))
