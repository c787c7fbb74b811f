"""Replacement strings, as GNU parallel has them: {}, {.}, {/}, {//}, {/.}, {#}, {%}.

``{2}`` and ``{2/.}`` mean one of several inputs. File names know ``%t``, the task's number, as well.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_REPLACEMENT = re.compile(r"\{(?:([1-9][0-9]*|)(//|/\.|\.|/)?|(#)|(%))\}|(%t)")
_EXTENSION = re.compile(r"\.[^/.]*$")
#: An input as it is put in where it stands between other text.
_Quote = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Values:
    """What the replacement strings of one task stand for."""

    #: From 1: ``{#}``.
    number: int
    #: Its name in file names: ``%t``.
    task: str
    inputs: Sequence[str]
    #: From 1: ``{%}``. Known on the node alone.
    slot: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """A text, or what stands in its place."""

    text: str
    #: Which input; 0: all of them.
    place: int = 0
    change: str = ""
    #: "input", "number", "slot", "task", or empty for a text as it is.
    kind: str = ""


@lru_cache(maxsize=256)
def _parts(template: str, *, in_file: bool) -> tuple[_Part, ...]:
    found: list[_Part] = []
    end = 0
    for match in _REPLACEMENT.finditer(template):
        place, change, number, slot, task = match.groups()
        if task and not in_file:
            continue
        if match.start() > end:
            found.append(_Part(template[end : match.start()]))
        end = match.end()
        kind = "number" if number else "slot" if slot else "task" if task else "input"
        found.append(_Part(match[0], int(place or 0), change or "", kind))
    if end < len(template):
        found.append(_Part(template[end:]))
    return tuple(found)


def has_replacement(words: Sequence[str]) -> bool:
    """Whether a replacement string is among the words of a command."""
    return any(part.kind for word in words for part in _parts(word, in_file=False))


def has_slot(words: Sequence[str]) -> bool:
    """Whether a command has ``{%}``, so that it is known whole on the node alone."""
    return any(part.kind == "slot" for word in words for part in _parts(word, in_file=False))


def highest_input(words: Sequence[str]) -> int:
    """The highest number of an input that is named."""
    return max((part.place for word in words for part in _parts(word, in_file=False)), default=0)


def tells_apart(name: str) -> bool:
    """Whether a file name differs from task to task."""
    return any(part.kind in ("input", "number", "task") for part in _parts(name, in_file=True))


def arguments(words: Sequence[str], values: Values) -> list[str]:
    """The arguments of a program. A word that is ``{}`` alone becomes one for each input."""
    made: list[str] = []
    for word in words:
        if word == "{}":
            made += values.inputs
        else:
            made.append(_fill(_parts(word, in_file=False), values, str))
    return made


def line(words: Sequence[str], values: Values) -> str:
    """A line of shell: the inputs are quoted, the rest is as it is."""
    return _fill(_parts(" ".join(words), in_file=False), values, shlex.quote)


def file_name(name: str, values: Values) -> str:
    """The name of a task's file."""
    return _fill(_parts(name, in_file=True), values, str)


def _fill(parts: Sequence[_Part], values: Values, quote: _Quote) -> str:
    return "".join([part.text if not part.kind else _value(part, values, quote) for part in parts])


def _value(part: _Part, values: Values, quote: _Quote) -> str:
    if part.kind == "number":
        return str(values.number)
    if part.kind == "slot":
        return str(values.slot)
    if part.kind == "task":
        return values.task
    chosen = values.inputs if not part.place else values.inputs[part.place - 1 : part.place]
    return " ".join([quote(_changed(text, part.change)) for text in chosen])


def _changed(text: str, change: str) -> str:
    if change == "//":
        return os.path.dirname(text) or "."  # noqa: PTH120 - text, not a path of this machine
    if change in ("/", "/."):
        text = text.rpartition("/")[2]
    return _EXTENSION.sub("", text) if change in (".", "/.") else text
