"""Runs of seeds."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator

from simulation.coordination.world import World


def run(seed: int, harm: str = "", tell: Callable[[str], None] | None = None) -> None:
    """One run.

    Raises:
        AssertionError: something is not as it must be.
    """
    World(seed, harm, tell).run()


def failures(seeds: Iterable[int], harm: str = "") -> Iterator[tuple[int, str]]:
    """The seeds that fail, with what is wrong. A core that raises anything at all has failed too."""
    for seed in seeds:
        try:
            run(seed, harm)
        except Exception as error:  # noqa: BLE001 - whatever a core raises is a finding
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            yield seed, f"{type(error).__name__}: {error} ({where})"
