"""How a job went, for people: progress, how long tasks took, what failed."""

from __future__ import annotations

from typing import Any

from manyhands.cli import _output
from manyhands.loadtest.report import numbers
from manyhands_shared.text import amount

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
        found.append(("sampled", f"{amount(sampled, 'attempt')}; the durations below are theirs"))
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
            _output.say(f"    {_span(run)}")
    print_failed(history["failures"])
    print_failures(history["failures"], lines=_MOST)


def print_failed(failures: dict[str, Any]) -> None:
    """Print the first attempts that did not end well, each by itself."""
    if failures["first"]:
        _output.say("\nDid not end well:")
        for one in failures["first"][:_MOST]:
            run = one.get("run")
            where = f"on node {one['node']}" if one["node"] else "on no node"
            slot = f", slot {run['slot']}, after {numbers.time(run['seconds'])}" if run else ""
            named = f"  task {one['task']}, attempt {one['attempt']}: {one['what']} {where}{slot}"
            _output.say(named)
            if run:
                _output.say(f"    {_span(run)}")
        more = sum(failures["counts"].values()) - _MOST
        if more > 0:
            _output.say(f"  and {more:,} more")


def _span(run: dict[str, Any]) -> str:
    """Return what there is of a run beside where and how long: its waits, its costs."""
    # A broker of before, or a record of one in the journal, has neither.
    queued, sent = run.get("queued"), run.get("sent")
    parts = []
    if queued is not None and sent is not None:
        parts.append(f"queued {numbers.time(max(0.0, sent - queued))} at the broker")
    if sent is not None:
        parts.append(f"waited {numbers.time(max(0.0, run['begun'] - sent))} on the node")
    parts.append(f"CPU {numbers.time(run['cpu'])}")
    if run["peak"]:
        parts.append(f"peak {numbers.size(run['peak'] * 1024)}")
    given = f"{numbers.size(run['given'])} in, " if "given" in run else ""
    parts.append(f"{given}{numbers.size(run['nbytes'])} out")
    return ", ".join(parts)


def print_failures(failures: dict[str, Any], *, lines: int | None) -> None:
    """Print what tasks raised, by kind; of each traceback its last `lines`, or all."""
    if failures["groups"]:
        _output.say("\nRaised:")
        for group in failures["groups"][:_MOST]:
            named = ", ".join(map(str, group["tasks"][:_MOST]))
            more = ", …" if group["count"] > min(_MOST, len(group["tasks"])) else ""
            _output.say(f"  {amount(group['count'], 'time')} {group['type']}: {group['message']}")
            thing = "tasks" if more or len(group["tasks"]) > 1 else "task"
            _output.say(f"    {thing} {named}{more}")
            for line in group["traceback"].rstrip().splitlines()[-(lines or 0) :]:
                _output.say(f"    {line}")
    if failures["others"]:
        were = "was" if failures["others"] == 1 else "were"
        _output.say(
            f"  {amount(failures['others'], 'failure')} {were} counted, and not looked into"
        )
