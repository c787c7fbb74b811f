"""How objects look in a notebook: a title, a table, and a bar for what has ended. All of it is text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from manyhands_shared.text import printable

#: Seconds that the broker has to answer, for a cell waits meanwhile.
ANSWER_SECONDS = 2.0
_BOX = (
    "font-family:system-ui,sans-serif;border:1px solid #8886;border-radius:6px;padding:.6em .9em;"
    "display:inline-block;min-width:18em"
)
_BAR = "height:.6em;border-radius:3px;background:#8883;overflow:hidden;display:flex;margin:.5em 0"
_DONE = "#2e9e5b"
#: What a part of the bar stands for, and its colour.
_PARTS = (("done", _DONE), ("failed", "#d23f3f"), ("cancelled", "#999"), ("active", "#3b82d6"))


def card(
    title: str, rows: Iterable[tuple[str, object]], counts: Mapping[str, Any] | None = None
) -> str:
    """Return the HTML of an object.

    Args:
        title: what it is.
        rows: names and values; a value of `None` or "" is left out.
        counts: of a job: ``tasks``, ``done``, ``failed``, ``cancelled``, ``active``.
    """
    cells = "".join(
        f'<tr><td style="text-align:left;opacity:.7">{_text(name)}</td>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in rows
        if value not in (None, "")
    )
    bar = "" if counts is None else _bar(counts)
    return (
        f'<div style="{_BOX}"><b>{_text(title)}</b>{bar}'
        f'<table style="margin-top:.3em">{cells}</table></div>'
    )


def bar(label: str, ended: int, total: int | None, seconds: float) -> dict[str, str]:
    """Return what a notebook displays of work under way: as HTML, and as text for those without.

    Args:
        label: stands before the bar.
        ended: how much of it has ended.
        total: how much there is, if that is known.
        seconds: since when it has been under way.
    """
    words = [f"{ended:,}" if total is None else f"{ended:,} of {total:,}", f"{seconds:.1f} s"]
    drawn = f"<span>{_text(label)}</span>" if label else ""
    if total is not None:
        share = ended / total if total else 1.0
        if 0 < ended < total:
            words.append(f"about {seconds / share - seconds:.1f} s left")
        drawn += (
            f'<div style="{_BAR};min-width:18em">'
            f'<div style="width:{100 * share:.2f}%;background:{_DONE}"></div></div>'
        )
    text = " \N{MIDDLE DOT} ".join(words)
    return {
        "text/plain": f"{printable(label)} {text}".lstrip(),
        "text/html": (
            '<div style="font-family:system-ui,sans-serif;display:flex;align-items:center;gap:.8em">'
            f"{drawn}<span>{text}</span></div>"
        ),
    }


def _bar(counts: Mapping[str, Any]) -> str:
    total = max(1, int(counts["tasks"]))
    parts = "".join(
        f'<div title="{count:,} {name}" style="width:{100 * count / total:.2f}%;background:{colour}">'
        "</div>"
        for name, colour in _PARTS
        if (count := int(counts[name]))
    )
    return f'<div style="{_BAR}">{parts}</div>'


def _text(value: object) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    from html import escape  # noqa: PLC0415 - for notebooks alone

    return escape(printable(text))
