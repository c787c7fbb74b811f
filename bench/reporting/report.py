"""A run as markdown: targets, medians with ratios, versions and settings, the machine's limits."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measures import FIRST, TRIPS
from bench.reporting.results import OURS, Run
from bench.reporting.targets import verdicts

#: The tables: figures that belong together, none too wide for a page.
_TABLES = (
    (
        "no-op tasks/s",
        "CPU per task, µs",
        "round trip p50, ms",
        "round trip p99, ms",
        "chain of 1,000 tasks, s",
        TRIPS,
        "sleep(0.05) x 64, of ideal",
    ),
    (
        "map of 1,000,000, items/s",
        "Executor.map of 1,000,000, items/s",
        "1 MB results, MB/s",
        "16 MB results, MB/s",
        "128 MB results, MB/s",
        "64 MB argument x 100 tasks, s",
        "diamond of 64 MB arrays, s",
    ),
    (FIRST, "idle CPU, % of a core", "idle memory, PSS MB"),
)
_MET = {True: "met", False: "**not met**", None: "?"}


def markdown(run: Run) -> str:
    """Everything that a run has found."""
    systems = [name for name in run.present if run.figures[name]]
    parts = [_words(run)]
    if OURS in systems:
        parts.append("\n".join(_targets(run)))
    known = {figure for table in _TABLES for figure in table}
    rest = tuple(figure for figure in run.names() if figure not in known)
    for table in (*_TABLES, rest):
        figures = [figure for figure in table if figure in run.names()]
        if figures:
            parts.append("\n".join(_medians(run, systems, figures)))
    if run.fleet:
        parts.append("\n".join(_fleet(run)))
    parts.append("\n".join(_notes(run, systems)))
    if run.limits:
        limits = [f"- {name}: {number(value)}" for name, value in run.limits.items()]
        parts.append("What the machine can do:\n\n" + "\n".join(limits))
    return "\n\n".join(parts)


def number(value: float) -> str:
    """The digits that matter, four of large numbers and three of others; thousands apart."""
    if value >= 100:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.3g}"


def _words(run: Run) -> str:
    where = run.environment
    repeats = f"medians of {run.repeats} repeats in turn" if run.repeats > 1 else "one repeat"
    words = (
        f"{where['workers']} workers on {where['cores']} cores, Python {where['python']}, "
        f"{where['system']}, {where['when']}; {repeats}. "
        f"In brackets: how many times better {OURS} is."
    )
    if run.left_out:
        words += f" {run.left_out}"
    if not run.complete:
        words += " **The run was ended before it was complete.**"
    return words


def _targets(run: Run) -> Iterator[str]:
    yield "| target | found | |"
    yield "|---|---|---|"
    for verdict in verdicts(run):
        yield f"| {verdict.target} | {verdict.found} | {_MET[verdict.met]} |"


def _medians(run: Run, systems: list[str], figures: list[str]) -> Iterator[str]:
    yield "| | " + " | ".join(figures) + " |"
    yield "|---|" + "---|" * len(figures)
    for system in systems:
        cells = [_cell(run, system, figure) for figure in figures]
        if any(cells):
            yield f"| {system} | " + " | ".join(cells) + " |"


def _cell(run: Run, system: str, figure: str) -> str:
    median = run.median(system, figure)
    if median is None:
        return ""
    ratio = None if system == OURS else run.ratio(system, figure)
    return number(median) + (f" ({number(ratio)})" if ratio is not None else "")


def _fleet(run: Run) -> Iterator[str]:
    figures = list(next(iter(run.fleet.values())))
    yield "| simulated nodes | " + " | ".join(figures) + " |"
    yield "|---|" + "---|" * len(figures)
    for nodes, found in run.fleet.items():
        cells = [number(found[figure]) if figure in found else "" for figure in figures]
        yield f"| {int(nodes):,} | " + " | ".join(cells) + " |"


def _notes(run: Run, systems: list[str]) -> Iterator[str]:
    for system in systems:
        versions = ", ".join(f"{k} {v}" for k, v in run.versions.get(system, {}).items())
        yield f"- {system}: {versions}; {run.settings[system]}"
    for name, reason in run.missing.items():
        yield f"- {name} was not measured: {reason}"
    for name, failed in run.failures.items():
        if name not in run.missing:
            for measure, why in failed.items():
                yield f"- {name}, {measure}: {why}"
