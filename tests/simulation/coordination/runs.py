"""Runs of seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from simulation.coordination.world import World
from simulation.failing_seeds import failing


def run(seed: int, harm: str = "", tell: Callable[[str], None] | None = None) -> None:
    """One run.

    Raises:
        AssertionError: something is not as it must be.
    """
    World(seed, harm, tell).run()


def failures(seeds: Iterable[int], harm: str = "") -> Iterator[tuple[int, str]]:
    """Yield the seeds that fail, with what is wrong."""
    return failing(partial(run, harm=harm), seeds)
