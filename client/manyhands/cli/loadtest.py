"""`manyhands loadtest`: how much a cluster takes, with a report."""

from __future__ import annotations

import contextlib
import json as json_format
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from manyhands.cli import _output, _user_files
from manyhands.cli._duration import DURATION, TIME_LIMIT
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import client_options, json_option
from manyhands.cli._user_files import DIRECTORY, FILE
from manyhands.cli._verb import Verb

if TYPE_CHECKING:
    from manyhands.loadtest.report.tables import Table
    from manyhands.loadtest.run import Listener, Plan


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers with commas between them."""

    name = "numbers"

    def __init__(self, kind: Callable[[str], Any], least: float, most: float) -> None:
        self._kind = kind
        self._least = least
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """All of them, as a tuple."""
        if isinstance(value, tuple):
            return value
        found = []
        for word in str(value).split(","):
            try:
                number = self._kind(word)
            except ValueError:
                number = self._least - 1
            if not self._least <= number <= self._most:
                self.fail(
                    f"{word!r} is no number from {self._least:g} to {self._most:g}; "
                    "write one or more, as in 1,2,4",
                    param,
                    ctx,
                )
            found.append(number)
        return tuple(found)


@click.command(
    cls=Verb,
    name="loadtest",
    examples=(
        ("how much does this machine take? Ramps until it takes no more", "manyhands loadtest"),
        (
            "a cluster that is there, under 2,000 tasks of 5 ms a second",
            "manyhands loadtest --broker tcp://HOST:7711 --mix cpu:5ms --rate 2000",
        ),
        (
            "does it scale? 1 to 16 hosts on this machine (as root)",
            "manyhands loadtest --hosts 1,2,4,8,16 --mix sleep:0.5",
        ),
        ("is it better than it was?", "manyhands loadtest --compare old/report.json"),
    ),
)
@click.option(
    "--mix",
    default="noop",
    show_default=True,
    help="The tasks: noop, sleep:TIME, cpu:TIME, array-in:SIZE, array-out:SIZE, several with weights as "
    "noop=9,array-out:1MB=1, or mixed.",
)
@click.option(
    "--rate",
    "rates",
    type=_Numbers(float, 0.01, 1e7),
    default=(),
    metavar="RATES",
    help="Open loop: tasks a second, whatever the cluster does; several with commas.",
)
@click.option(
    "--concurrency",
    "concurrencies",
    type=_Numbers(int, 0, 10_000_000),
    default=(),
    metavar="NUMBERS",
    help="Closed loop: tasks in flight; 0 is full pressure. Several with commas.",
)
@click.option(
    "--hosts",
    type=_Numbers(int, 1, 500),
    default=(),
    metavar="NUMBERS",
    help="Load a cluster of this many hosts in network namespaces of this machine; needs root. "
    "Several with commas show how it scales.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 4_096),
    help="Slots of each node of a cluster that this starts; 2 a host, else one for each core.",
)
@click.option(
    "--clients", type=click.IntRange(1, 256), default=1, show_default=True, help="Client processes."
)
@click.option(
    "--duration",
    "seconds",
    type=TIME_LIMIT,
    default=5.0,
    show_default="5s",
    help="How long each step is measured.",
)
@click.option(
    "--warmup",
    type=DURATION,
    default=1.0,
    show_default="1s",
    help="Before that, in each step, for as long.",
)
@click.option(
    "--stop-timeout",
    type=TIME_LIMIT,
    default=60.0,
    show_default="1m",
    help="How long answers may be missing at the end of a step.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "uniform"]),
    default="poisson",
    show_default=True,
    help="When the tasks of an open loop come.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of arrivals and of the mix.")
@click.option(
    "--report",
    "folder",
    type=DIRECTORY,
    metavar="DIRECTORY",
    help="Where report.html, report.md and report.json go.",
)
@click.option(
    "--compare",
    "old",
    type=FILE,
    metavar="FILE",
    help="A report.json of before; the report then shows both.",
)
@client_options("loadtest")
@json_option
def command(
    *,
    mix: str,
    folder: Path | None,
    old: Path | None,
    json: bool,
    broker: str,
    hosts: tuple[int, ...],
    **options: Any,
) -> None:
    """Load a cluster, check every answer, and report throughput and latency.

    Without --rate or --concurrency it ramps to saturation: full pressure first, then rising rates around
    what that showed. With several --hosts each number gets one step of full pressure.

    Latency runs from the moment when a task was meant to start. In an open loop that is when it was
    due, not when the client could send it. So a cluster that falls behind cannot hide it.

    Without --broker and --hosts it loads a cluster of its own on this machine. One wrong, missing or
    double answer is exit code 1.
    """
    from manyhands.loadtest import mix as mixes  # noqa: PLC0415
    from manyhands.loadtest.report import compare, markdown  # noqa: PLC0415 - so that --help is quick
    from manyhands.loadtest.run import Plan, run  # noqa: PLC0415

    context = click.get_current_context()
    try:
        mixes.parse(mix)
    except ValueError as error:
        raise click.BadParameter(str(error), context, param_hint="'--mix'") from None
    if broker and hosts:
        raise click.UsageError("--hosts makes a cluster of its own: give it or --broker", context)
    before = compare.load(old) if old is not None else None
    if folder is not None:
        # Before the load, which may take long.
        _user_files.make_folder(folder)
    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan(mix=mix, broker=broker, hosts=hosts, **options)
    _note(plan)
    with _listener(json=json) as listener:
        document = run(plan, listener)
    comparison = compare.compare(before, document) if before else None
    if broker:
        _publish(plan, document)
    if folder is not None:
        _save(folder, document, comparison)
    if json:
        _output.document(**{key: value for key, value in document.items() if key != "version"})
    else:
        _output.say(markdown.render(document, comparison).rstrip("\n"))
    if document["problem"]:
        raise JobFailed(
            f"{document['problem']}; these answers make every other figure of this test worthless"
        )


def _note(plan: Plan) -> None:
    if not plan.broker and not plan.hosts:
        _output.note("no broker named: loading a cluster of this machine's own")


@contextlib.contextmanager
def _listener(*, json: bool) -> Any:
    from manyhands.loadtest import live  # noqa: PLC0415 - so that --help is quick

    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if terminal and not json:
        with live.live_view() as view:
            yield view
    else:
        lines: Listener = live.Lines(_output.note)
        yield lines


def _publish(plan: Plan, document: dict[str, Any]) -> None:
    from manyhands.loadtest.report import summary  # noqa: PLC0415 - so that --help is quick
    from manyhands.loadtest.run import publish  # noqa: PLC0415
    from manyhands_shared.errors import ManyhandsError  # noqa: PLC0415

    try:
        publish(plan, summary.render(document))
    except (ManyhandsError, TimeoutError) as error:
        _output.note(f"the broker's dashboard does not have the report: {error}")


def _save(folder: Path, document: dict[str, Any], comparison: Table | None) -> None:
    from manyhands.loadtest.report import markdown, page  # noqa: PLC0415 - so that --help is quick

    try:
        for name, text in (
            ("report.json", json_format.dumps(document, indent=1) + "\n"),
            ("report.md", markdown.render(document, comparison)),
            ("report.html", page.render(document, comparison)),
        ):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobFailed(f"the report cannot be written to {folder}: {error.strerror}") from None
    _output.note(f"the report is in {folder / 'report.html'}")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
