"""How a job went, for people: progress, how long tasks took, what failed."""

from __future__ import annotations

from typing import Any

from manyhands.cli import _output
from manyhands.loadtest.report import numbers

#: Characters of the longest bar.
_BAR = 30
#: Lines of each list that are printed; `--json` has all.
_MOST = 5


def rows(history: dict[str, Any]) -> list[tuple[str, str]]:
    """Return figures of a job's history as rows of the table that `manyhands show` prints."""
    if not history:
        return []
    found = []
    progress = history.get("progress")
    if progress and progress["rate"]:
        found.append(("rate", f"{numbers.rate(progress['rate'])} tasks/s"))
        if progress["eta"] is not None:
            found.append(("left", f"about {numbers.time(progress['eta'])}"))
    if history["cpu"]:
        found.append(("CPU of its tasks", numbers.time(history["cpu"])))
    if history["peak"]:
        found.append(("peak memory", numbers.size(history["peak"] * 1024)))
    sampled = history["sampled"]["tasks"]
    if sampled:
        found.append(("sampled", f"{sampled} tasks; the durations below are theirs"))
    return found


def print_details(history: dict[str, Any]) -> None:
    """Print what is more than a figure."""
    if not history:
        return
    if history["durations"]:
        _output.say("\nHow long tasks took:")
        most = max(count for _, count in history["durations"])
        for upto, count in history["durations"]:
            bar = "█" * max(1, round(_BAR * count / most)) if count else ""
            _output.say(f"  up to {numbers.time(upto):>8}  {count:>9,}  {bar}".rstrip())
    if history["slowest"]:
        _output.say("\nSlowest:")
        for run in history["slowest"][:_MOST]:
            many = f" and {run['tasks'] - 1} behind it" if run["tasks"] > 1 else ""
            where = f"node {run['node']}, slot {run['slot']}, attempt {run['attempt']}"
            took = numbers.time(run["seconds"])
            _output.say(f"  task {run['first']}{many}: {took} on {where}")
    print_failures(history["failures"], lines=_MOST)


def print_failures(failures: dict[str, Any], *, lines: int | None) -> None:
    """Print what tasks raised, by kind; of each traceback its last `lines`, or all."""
    if failures["groups"]:
        _output.say("\nRaised:")
        for group in failures["groups"][:_MOST]:
            named = ", ".join(map(str, group["tasks"][:_MOST]))
            more = ", …" if group["count"] > min(_MOST, len(group["tasks"])) else ""
            _output.say(f"  {group['count']} times {group['type']}: {group['message']}")
            _output.say(f"    tasks {named}{more}")
            for line in group["traceback"].rstrip().splitlines()[-(lines or 0) :]:
                _output.say(f"    {line}")
    if failures["others"]:
        _output.say(f"  {failures['others']} failures were counted, and not looked into")
