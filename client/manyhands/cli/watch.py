"""`manyhands watch`: how far a job is, until it is over."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import _completing, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import NAMED, client_options, json_option
from manyhands.cli._verb import Verb
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from manyhands.cli._progress_line import ProgressLine

_POLL_SECONDS = 0.5
#: Off a terminal a line comes when the state changes, and so often.
_LINE_SECONDS = 10.0


@click.command(
    cls=Verb,
    name="watch",
    examples=(("", "manyhands watch 4f0c && manyhands results 4f0c"),),
)
@click.argument("job", metavar="JOB", type=NAMED, shell_complete=_completing.jobs)
@client_options("watch")
@json_option
def command(*, job: str, json: bool, **connection: Any) -> None:
    """Show how far a job is until it is over, and print how it ended: done, failed or cancelled.

    On a terminal it is one line that changes. Elsewhere a line comes when the job's state changes, and
    every ten seconds. Exit code 0 says that the job is done. It is no matter whether the broker is
    restarted meanwhile.
    """
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - so that --help is quick
    from manyhands.cli._progress_line import ProgressLine  # noqa: PLC0415

    pause = threading.Event()
    with _connect.client(**connection) as client:
        found = client.job(_named.find(client, job)["id"])
        line = ProgressLine()
        with _shown(quiet=json) as show:
            while (info := _named.patiently(found.info))["state"] not in _named.ENDED:
                line.update(info, time.monotonic())
                show(line)
                pause.wait(_POLL_SECONDS)
    if json:
        _output.document(**info)
    else:
        _output.say(f"{found.id} {info['state']}")
    if info["state"] == "failed":
        raise JobFailed(
            f"{info['failed']} of {amount(info['tasks'], 'task')} failed; see: manyhands show {found.id}"
        )
    if info["state"] != "done":
        raise JobFailed(f"job {found.id} was cancelled")


@contextlib.contextmanager
def _shown(*, quiet: bool) -> Iterator[Callable[[ProgressLine], None]]:
    """Give what shows a line: in place on a terminal; below the others, now and then, elsewhere."""
    if quiet:
        yield lambda _: None
        return
    if _output.is_live(sys.stderr):
        from rich.console import Console  # noqa: PLC0415 - 60 ms that pipes need not pay
        from rich.live import Live  # noqa: PLC0415

        with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
            yield lambda line: live.update(line.drawn())
        return
    told = ("", -_LINE_SECONDS)

    def say(line: ProgressLine) -> None:
        nonlocal told
        state, at = told
        if line.state != state or line.at >= at + _LINE_SECONDS:
            told = line.state, line.at
            _output.say(str(line))

    yield say
