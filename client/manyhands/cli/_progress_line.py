"""How far a job is, in one line."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from manyhands.loadtest.report import numbers
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from rich.console import RenderableType

#: The rate is that of the last seconds.
_RATE_SECONDS = 30.0


class ProgressLine:
    """What the broker tells of a job, and how fast its tasks end."""

    def __init__(self) -> None:
        self.state = ""
        #: When it was told.
        self.at = 0.0
        self._info: dict[str, Any] = {}
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, info: dict[str, Any], now: float) -> None:
        """Take what the broker tells at `now`."""
        self.state, self.at, self._info = str(info["state"]), now, info
        self._samples.append((now, self.ended))
        while self._samples[0][0] < now - _RATE_SECONDS:
            self._samples.popleft()

    @property
    def ended(self) -> int:
        """How many of its tasks have ended, whichever way."""
        return sum(self._info.get(name, 0) for name in ("done", "failed", "cancelled"))

    @property
    def rate(self) -> float:
        """Tasks that end in a second; 0 as long as that is not known."""
        (begin, before), (end, now) = self._samples[0], self._samples[-1]
        return (now - before) / (end - begin) if end > begin else 0.0

    def __str__(self) -> str:
        info = self._info
        words = [f"{self.state}: {self.ended:,} of {amount(info['tasks'], 'task')} ended"]
        words += [
            f"{info[name]:,} {name}"
            for name in ("failed", "cancelled", "active", "queued")
            if info.get(name)
        ]
        if self.rate:
            words.append(f"{numbers.rate(self.rate)} tasks/s")
            if not info.get("open"):
                left = (info["tasks"] - self.ended) / self.rate
                words.append(f"about {numbers.time(left)} left")
        return ", ".join(words)

    def drawn(self) -> RenderableType:
        """The line with a bar before it, for a terminal."""
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - only terminals pay for it
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(1, self._info["tasks"]), self.ended, width=24)
        row.add_row(bar, Text(str(self), overflow="ellipsis", no_wrap=True))
        return row
