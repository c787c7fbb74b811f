"""Which seeds fail: of the simulation, and of that of programs."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator


def failing(run: Callable[[int], None], seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Run each seed; yield those that fail, with what is wrong.

    A core that raises anything at all has failed too.
    """
    for seed in seeds:
        try:
            run(seed)
        except Exception as error:  # noqa: BLE001 - whatever a core raises is a finding
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            yield seed, f"{type(error).__name__}: {error} ({where})"


def report(failures: Iterator[tuple[int, str]], seeds: int, stop: int) -> int:
    """Print the seeds that fail, `stop` of them at most; return 1 if there are any."""
    began, count = time.perf_counter(), 0
    for seed, text in failures:
        print(f"seed {seed}: {text}", flush=True)
        count += 1
        if count >= stop:
            break
    seconds = time.perf_counter() - began
    print(f"{count} failures; {seeds} seeds in {seconds:.1f} s", file=sys.stderr)
    return int(count > 0)
