"""What tasks take of the processor, and how much memory their process has had."""

from __future__ import annotations

import resource

#: Tasks that took less together are not measured: that takes a microsecond.
_MEASURED_NS = 1_000_000


class Usage:
    """Measures from call to call."""

    def __init__(self) -> None:
        self._cpu = 0

    def of(self, spent: int) -> tuple[int, int]:
        """Return the CPU time since the last measurement, in microseconds, and the peak in KiB.

        Args:
            spent: how long the tasks ran that it is about, in nanoseconds.
        """
        if spent < _MEASURED_NS:
            return 0, 0
        usage = resource.getrusage(resource.RUSAGE_SELF)
        before, self._cpu = self._cpu, round((usage.ru_utime + usage.ru_stime) * 1e6)
        return self._cpu - before, usage.ru_maxrss
