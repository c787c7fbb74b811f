"""What one step of a load test does, and how much work full pressure keeps in hand. All pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from manyhands.loadtest.report import numbers

#: Under full pressure, the cluster's work that is kept waiting, in seconds.
_PRESSURE_SECONDS = 0.2
#: The least number of tasks that wait for each slot, or it would have nothing to go on with.
_PRESSURE_TASKS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A rate of load for a while.

    Attributes:
        loop: ``open``, tasks start at `rate` come what may; ``closed``, `concurrency` tasks are in
            flight and each answer starts the next.
        rate: tasks a second, of an open loop.
        concurrency: of a closed loop; 0 is full pressure, as many as keep the cluster busy.
        warmup: seconds before anything is measured.
        seconds: how long is measured.
        arrivals: see `arrivals.offsets`.
        stop_timeout: seconds that answers are waited for at the end.
    """

    loop: str
    rate: float = 0.0
    concurrency: int = 0
    warmup: float = 2.0
    seconds: float = 5.0
    arrivals: str = "poisson"
    stop_timeout: float = 60.0

    @property
    def label(self) -> str:
        """For people."""
        if self.loop == "open":
            return f"open loop, {numbers.rate(self.rate)} tasks/s"
        if self.concurrency:
            return f"closed loop, {self.concurrency:,} in flight"
        return "closed loop, full pressure"

    def share(self, client: int, clients: int) -> Step:
        """What one of several clients does of it."""
        values: dict[str, Any] = asdict(self)
        values["rate"] = self.rate / clients
        if self.concurrency:
            share, rest = divmod(self.concurrency, clients)
            values["concurrency"] = max(1, share + (client < rest))
        return Step(**values)


def pressure(rate: float, slots: float, present: int) -> int:
    """Tasks to have in flight for full pressure, by Little's law.

    Args:
        rate: tasks a second, as measured last.
        slots: of the cluster, this client's share of them.
        present: how many are allowed now; at most twice as many come out.
    """
    least = max(1, round(_PRESSURE_TASKS * slots))
    return max(least, min(round(rate * _PRESSURE_SECONDS), 2 * present))
