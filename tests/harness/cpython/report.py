"""What running a class of CPython's tests came to, and all of them as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

_RAN = re.compile(r"^Ran (\d+) tests? in ([\d.]+)s$", re.MULTILINE)
_SKIPPED = re.compile(r"\.\.\. skipped (['\"])(.*)\1$", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAIL|ERROR): (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the tests of one class."""

    passed: int
    #: Not for this machine or this start method, as the tests themselves say.
    skipped: int
    #: Named in `exemptions`.
    exempt: int
    failed: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        if self.exempt:
            parts.append(f"{self.exempt} exempt")
        if self.failed:
            parts.append(f"failed: {', '.join(self.failed)}")
        return ", ".join(parts)


def outcome(said: str, exempt: Mapping[str, str]) -> Outcome:
    """Return what `unittest -v` has said of a class.

    Args:
        said: its standard error.
        exempt: reasons, by what is exempt.
    """
    ran = _RAN.search(said)
    if ran is None:
        return Outcome(0, 0, 0, ("it does not run to its end",), 0.0)
    reasons = [found[2] for found in _SKIPPED.finditer(said)]
    ours = sum(reason in exempt.values() for reason in reasons)
    failed = tuple(dict.fromkeys(_FAILED.findall(said)))
    passed = max(0, int(ran[1]) - len(reasons) - len(failed))
    return Outcome(passed, len(reasons) - ours, ours, failed, float(ran[2]))


def show(places: Sequence[str], outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Print the outcomes of each class, in each of the places."""
    table = Table("class")
    for place in places:
        table.add_column(place)
        table.add_column("s", justify="right")
    for name, here in outcomes.items():
        cells = [text for one in here for text in (str(one), f"{one.seconds:.1f}")]
        table.add_row(name, *cells)
    totals = [text for each in zip(*outcomes.values(), strict=True) for text in _total(each)]
    table.add_section()
    table.add_row("all", *totals)
    # A pipe is no narrow terminal: a row stays a line.
    Console(width=160).print(table)


def _total(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    failed = sum(len(one.failed) for one in outcomes)
    text = (
        f"{sum(one.passed for one in outcomes)} passed, {sum(one.skipped for one in outcomes)} skipped, "
        f"{sum(one.exempt for one in outcomes)} exempt, {failed} failed"
    )
    return text, f"{sum(one.seconds for one in outcomes):.0f}"
