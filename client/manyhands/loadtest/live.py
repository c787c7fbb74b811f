"""What people see while a load test runs: a table that grows, on a terminal; lines, anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from manyhands.loadtest.plan import Step
from manyhands.loadtest.report import numbers
from manyhands.loadtest.report.tables import cluster
from manyhands.loadtest.run import Listener

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_COLUMNS = ("load", "tasks/s", "50 %", "99 %", "max", "client")


class Lines(Listener):
    """A line for each cluster and each step.

    Args:
        say: prints one.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def target(self, label: str, nodes: int, slots: int) -> None:
        self._say(f"{label}: {cluster(nodes, slots)}")

    def end(self, step: dict[str, Any]) -> None:
        load, rate, half, most, _, _ = _row(step)
        self._say(f"  {load}: {rate} tasks/s, latency {half} (50 %), {most} (99 %)")


class LiveView(Listener):
    """A table with a row for each step, and the present one at its end."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._title = "starting"
        self._rows: list[tuple[str, ...]] = []
        self._step: Step | None = None
        self._began = 0.0
        self._clients: dict[int, dict[str, int]] = {}

    def target(self, label: str, nodes: int, slots: int) -> None:
        self._title = f"{label}: {cluster(nodes, slots)}"
        self._live.update(self._table(), refresh=True)

    def begin(self, step: Step) -> None:
        self._step, self._began, self._clients = step, time.monotonic(), {}
        self._live.update(self._table(), refresh=True)

    def progress(self, figures: dict[str, Any]) -> None:
        self._clients[figures["client"]] = figures
        self._live.update(self._table())

    def end(self, step: dict[str, Any]) -> None:
        self._rows.append(_row(step))
        self._step = None
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415 - only terminals pay for it

        table = Table(
            title=self._title, title_justify="left", title_style="", box=None, pad_edge=False
        )
        for number, heading in enumerate(_COLUMNS):
            table.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for row in self._rows:
            table.add_row(*row)
        if self._step is not None:
            table.add_row(*self._present(self._step), style="bold")
        return table

    def _present(self, step: Step) -> tuple[str, ...]:
        done = sum(client["done"] for client in self._clients.values())
        waiting = sum(client["waiting"] for client in self._clients.values())
        passed = time.monotonic() - self._began
        whole = step.warmup + step.seconds
        state = "warm-up" if passed < step.warmup else f"{min(passed, whole):.0f} of {whole:g} s"
        return (
            step.label,
            numbers.rate(done / max(passed, 0.1)),
            "",
            "",
            f"{waiting:,} open",
            state,
        )


@contextlib.contextmanager
def live_view() -> Iterator[Listener]:
    """A live table on stderr for as long as this lasts; it stays there afterwards."""
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield LiveView(live)


def _row(step: dict[str, Any]) -> tuple[str, ...]:
    latency = step["latency"]
    return (
        step["label"],
        numbers.rate(step["throughput"]),
        numbers.time(latency["percentiles"].get("50")),
        numbers.time(latency["percentiles"].get("99")),
        numbers.time(latency["max"]),
        numbers.percent(max(step["clients_busy"])),
    )
