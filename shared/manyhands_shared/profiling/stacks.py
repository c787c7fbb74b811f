"""Stacks that nodes have told of as text, counted by the functions on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

#: Functions of the list of those in which tasks were found most often.
_MOST = 10
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')


class Frame(NamedTuple):
    """A call of a function."""

    name: str
    file: str


class Share(NamedTuple):
    """A function, in how many looks it was what ran, and in how many it was on the stack."""

    function: str
    file: str
    itself: int
    whole: int


def counted(stacks: Iterable[dict[str, Any]]) -> Counter[tuple[Frame, ...]]:
    """How often each stack of functions was found; the outermost call comes first."""
    counts: Counter[tuple[Frame, ...]] = Counter()
    for one in stacks:
        frames = [Frame(match["name"], match["file"]) for match in _FRAME.finditer(one["text"])]
        counts[tuple(reversed(frames))] += one["count"]
    del counts[()]
    return counts


def shares(counts: Counter[tuple[Frame, ...]]) -> list[Share]:
    """Return the functions in which tasks were found most often."""
    own: Counter[Frame] = Counter()
    whole: Counter[Frame] = Counter()
    for frames, count in counts.items():
        own[frames[-1]] += count
        whole.update(dict.fromkeys(frames, count))
    ranked = sorted(own.items(), key=lambda item: -item[1])[:_MOST]
    return [Share(one.name, one.file, count, whole[one]) for one, count in ranked]
