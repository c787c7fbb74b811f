"""`manyhands profile`: where the tasks of a job spend their time."""

from __future__ import annotations

import json as json_module
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _completing, _output, _user_files
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from manyhands_shared.profiling.stacks import Share


@click.command(
    cls=Verb,
    name="profile",
    examples=(
        ("", "manyhands profile 4f0c"),
        ("", "manyhands profile 4f0c --seconds 30 --svg hot.svg --speedscope hot.json"),
    ),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
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
@json_option
def command(
    *,
    job: str,
    seconds: float,
    svg: str | None,
    speedscope: str | None,
    json: bool,
    **connection: Any,
) -> None:
    """Say in which functions the tasks of a job are: look at those that run, on all of its nodes.

    The nodes look 50 times a second at the thread in which a task runs. A node with more than 16 slots
    looks at 16 of them each time. Nothing is installed in your code, and it runs on as it did. The
    command writes a flame graph, which any browser shows, and a file for https://www.speedscope.app.
    """
    from manyhands.cli import _connect, _named, _stacks  # noqa: PLC0415 - so that --help is quick
    from manyhands_shared.profiling import flame_graph  # noqa: PLC0415
    from manyhands_shared.profiling.speedscope import document as speedscope_document  # noqa: PLC0415
    from manyhands_shared.profiling.stacks import counted, shares  # noqa: PLC0415

    with _connect.client(**connection) as client:
        found = _named.find(client, job)["id"]
        short = re.sub(r"\W", "", found)[:8]
        files = [svg or f"profile-{short}.svg", speedscope or f"profile-{short}.speedscope.json"]
        for name in files:
            _user_files.check_writable(Path(name))
        _output.note(f"looking at job {found} for {seconds:g} s")
        looks = _stacks.of_job(client, found, seconds)
    counts = counted(looks.stacks)
    if not counts:
        raise JobFailed(f"no task of job {found} ran meanwhile; see: manyhands why {found}")
    if not json:
        _print_table(shares(counts), counts.total())
    if looks.left_out:
        _output.note(f"{amount(looks.left_out, 'look')} left out: no room for their stacks")
    title = f"job {found}: {amount(counts.total(), 'look')} in {seconds:g} s"
    if json:
        _output.document(
            job=found,
            looks=counts.total(),
            left_out=looks.left_out,
            functions=[row._asdict() for row in shares(counts)],
            files=files,
        )
    texts = [
        flame_graph.draw(title, counts),
        json_module.dumps(speedscope_document(title, counts)),
    ]
    for name, text in zip(files, texts, strict=True):
        Path(name).write_text(text, encoding="utf-8")
        _output.note(f"{name} is written")


def _print_table(functions: list[Share], total: int) -> None:
    rows = [
        (
            f"{100 * row.itself / total:.1f} %",
            f"{100 * row.whole / total:.1f} %",
            row.function,
            row.file,
        )
        for row in functions
    ]
    _output.table(["itself", "with what it calls", "function", "file"], rows)
