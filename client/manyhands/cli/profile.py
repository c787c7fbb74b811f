"""`manyhands profile`: where the tasks of a job spend their time."""

from __future__ import annotations

import json as json_module
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import client_options
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands.cli._stacks import Frame

#: Lines of the table.
_MOST = 10


@click.command(
    cls=Verb,
    name="profile",
    examples=(
        ("", "manyhands profile 4f0c"),
        ("", "manyhands profile 4f0c --seconds 30 --svg hot.svg --speedscope hot.json"),
    ),
)
@click.argument("job", metavar="JOB", shell_complete=_completing.jobs)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=10.0,
    show_default=True,
    help="How long to look.",
)
@click.option("--svg", metavar="FILE", help="Where to write the flame graph; profile-JOB.svg.")
@click.option(
    "--speedscope",
    metavar="FILE",
    help="Where to write the profile for speedscope.app; profile-JOB.speedscope.json.",
)
@client_options("profile")
def command(
    *, job: str, seconds: float, svg: str | None, speedscope: str | None, **connection: Any
) -> None:
    """Say in which functions the tasks of a job are: look at those that run, on all of its nodes.

    The nodes look 50 times a second at the thread in which a task runs. A node with more than 16 slots
    looks at 16 of them each time. Nothing is installed in your code, and it runs on as it did. The
    command writes a flame graph, which any browser shows, and a file for https://www.speedscope.app.
    """
    from manyhands.cli import (  # noqa: PLC0415 - so that --help is quick
        _connect,
        _flame_graph,
        _named,
        _speedscope,
        _stacks,
    )

    with _connect.client(**connection) as client:
        found = _named.find(client, job)["id"]
        _output.note(f"looking at job {found} for {seconds:g} s")
        looks = _stacks.of_job(client, found, seconds)
    counts = _stacks.counted(looks.stacks)
    if not counts:
        raise JobFailed(f"no task of job {found} ran meanwhile; see: manyhands why {found}")
    _print_table(counts)
    if looks.left_out:
        _output.note(f"{looks.left_out:,} looks are left out: their stacks had no room")
    short = re.sub(r"\W", "", found)[:8]
    title = f"job {found}: {counts.total():,} looks in {seconds:g} s"
    for name, text in (
        (svg or f"profile-{short}.svg", _flame_graph.draw(title, counts)),
        (
            speedscope or f"profile-{short}.speedscope.json",
            json_module.dumps(_speedscope.document(title, counts)),
        ),
    ):
        Path(name).write_text(text, encoding="utf-8")
        _output.note(f"{name} is written")


def _print_table(counts: Counter[tuple[Frame, ...]]) -> None:
    """Print the functions in which tasks were found most often."""
    own: Counter[Frame] = Counter()
    whole: Counter[Frame] = Counter()
    for frames, count in counts.items():
        own[frames[-1]] += count
        whole.update(dict.fromkeys(frames, count))
    total = counts.total()
    rows = [
        (f"{100 * own[one] / total:.1f} %", f"{100 * whole[one] / total:.1f} %", one.name, one.file)
        for one, _ in sorted(own.items(), key=lambda item: -item[1])[:_MOST]
    ]
    _output.table(["itself", "with what it calls", "function", "file"], rows)
