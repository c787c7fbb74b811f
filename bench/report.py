"""A run's figures: medians, ratios, the markdown table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from bench.peers import PEERS

OURS = "manyhands"
#: Figures of which less is better, by a word in their names.
_LESS = ("round trip", "CPU", ", s", "idle", "memory")


@dataclass
class Run:
    """Everything that was measured in one go."""

    systems: list[str]
    repeats: int
    environment: dict[str, Any]
    #: System → figure → the value of each repeat.
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    #: Systems that were not measured at all, and why.
    missing: dict[str, str] = field(default_factory=dict)
    #: System → measure → why it has no figure.
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.figures = {name: {} for name in self.systems}

    @property
    def present(self) -> list[str]:
        """The systems that can be measured."""
        return [name for name in self.systems if name not in self.missing]

    def names(self) -> list[str]:
        """Every figure that some system has."""
        return list({name: None for found in self.figures.values() for name in found})

    def median(self, system: str, figure: str) -> float | None:
        """The median of the repeats, if there are any."""
        values = self.figures[system].get(figure)
        return statistics.median(values) if values else None

    def ratio(self, system: str, figure: str) -> float | None:
        """How many times better manyhands is."""
        ours = self.median(OURS, figure) if OURS in self.figures else None
        theirs = self.median(system, figure)
        if ours is None or theirs is None:
            return None
        top, bottom = (theirs, ours) if less_is_better(figure) else (ours, theirs)
        return top / bottom if bottom else None

    def document(self) -> dict[str, Any]:
        """Every single value, for programs."""
        return {
            "version": 2,
            "environment": self.environment,
            "repeats": self.repeats,
            "versions": self.versions,
            "settings": {name: PEERS[name].settings for name in self.systems},
            "limits": self.limits,
            "figures": self.figures,
            "missing": self.missing,
            "failures": self.failures,
        }


def less_is_better(figure: str) -> bool:
    """Whether a smaller value of this figure is the better one."""
    return "/s" not in figure and any(word in figure for word in _LESS)


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(run: Run) -> str:
    """Medians, and in brackets how many times better manyhands is; versions and settings below."""
    systems = [name for name in run.present if run.figures[name]]
    figures = run.names()
    where = run.environment
    words = (
        f"{where['workers']} workers on {where['cores']} cores, Python {where['python']}, "
        f"{where['system']}; medians of {run.repeats}; in brackets: how many times better "
        f"{OURS} is."
    )
    lines = [
        words,
        "",
        "| | " + " | ".join(figures) + " |",
        "|---|" + "---|" * len(figures),
    ]
    for system in systems:
        cells = [_cell(run, system, figure) for figure in figures]
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    lines.append("")
    for system in systems:
        versions = ", ".join(f"{k} {v}" for k, v in run.versions.get(system, {}).items())
        lines.append(f"- {system}: {versions}; {PEERS[system].settings}")
    lines += [f"- {name} was not measured: {reason}" for name, reason in run.missing.items()]
    for name, failed in run.failures.items():
        if name not in run.missing:
            lines += [f"- {name} has no {measure}: {why}" for measure, why in failed.items()]
    if run.limits:
        lines += ["", "This machine's limits:", ""]
        lines += [f"- {name}: {number(value)}" for name, value in run.limits.items()]
    return "\n".join(lines)


def _cell(run: Run, system: str, figure: str) -> str:
    median = run.median(system, figure)
    if median is None:
        return ""
    ratio = None if system == OURS else run.ratio(system, figure)
    return number(median) + (f" ({ratio:.3g})" if ratio is not None else "")
