"""Everything that was measured in one go, in memory and as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "manyhands"
_VERSION = 3
#: Figures that are better if they are less, by a word in their names.
_LESS = ("round trip", "CPU", ", s", "idle", "memory")


@dataclass
class Run:
    """A run of the benchmarks, as far as it came."""

    systems: list[str]
    repeats: int
    environment: dict[str, Any]
    #: System → how it was set up, in a few words.
    settings: dict[str, str] = field(default_factory=dict)
    #: Systems that are not measured at all, and why.
    missing: dict[str, str] = field(default_factory=dict)
    #: System → measure → why it has no figure, or not in every repeat.
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    #: What the machine can do.
    limits: dict[str, float] = field(default_factory=dict)
    #: System → figure → the value of each repeat.
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: Nodes → figure, of simulated fleets.
    fleet: dict[str, dict[str, float]] = field(default_factory=dict)
    #: What a long queue costs against a short one.
    backlog: dict[str, float] = field(default_factory=dict)
    #: What was left out on purpose.
    left_out: str = ""
    #: Whether it came to its end.
    complete: bool = False
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.figures = {name: self.figures.get(name, {}) for name in self.systems}

    @classmethod
    def load(cls, path: Path) -> Run:
        """What `save` has written.

        Raises:
            ValueError: it is not that, or of another version.
        """
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or document.pop("version", None) != _VERSION:
            raise ValueError(f"{path} is not of this version; run the benchmarks again")
        return cls(**document)

    def save(self, path: Path) -> None:
        """Write every single value, in place of what was there."""
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps({"version": _VERSION, **asdict(self)}, indent=1) + "\n")
        draft.replace(path)

    @property
    def present(self) -> list[str]:
        """The systems that can be measured."""
        return [name for name in self.systems if name not in self.missing]

    def add(self, system: str, figures: dict[str, float]) -> None:
        """The figures of one repeat."""
        for figure, value in figures.items():
            self.figures[system].setdefault(figure, []).append(value)

    def names(self) -> list[str]:
        """Every figure that some system has."""
        return list({name: None for found in self.figures.values() for name in found})

    def median(self, system: str, figure: str) -> float | None:
        """The median of the repeats, if there are any."""
        values = self.figures.get(system, {}).get(figure)
        return statistics.median(values) if values else None

    def ratio(self, system: str, figure: str) -> float | None:
        """How many times better manyhands is."""
        return times_better(figure, self.median(OURS, figure), self.median(system, figure))

    def best(self, figure: str, systems: list[str]) -> tuple[float, str] | None:
        """The best median among some systems, and whose it is."""
        found = [(value, name) for name in systems if (value := self.median(name, figure))]
        if not found:
            return None
        return min(found) if less_is_better(figure) else max(found)


def less_is_better(figure: str) -> bool:
    """Whether a smaller value of this figure is the better one."""
    return "/s" not in figure and any(word in figure for word in _LESS)


def times_better(figure: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times better `ours` is; nothing where that cannot be said."""
    if ours is None or theirs is None:
        return None
    top, bottom = (theirs, ours) if less_is_better(figure) else (ours, theirs)
    return top / bottom if bottom else None
