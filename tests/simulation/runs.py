"""Runs of seeds, one after the other or on all cores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from simulation.failing_seeds import failing
from simulation.story import Story
from simulation.world import World


def run(seed: int, harm: str = "", story: Story | None = None) -> None:
    """One run.

    Raises:
        AssertionError: something is not as it must be.
    """
    World(seed, harm, story).run()


def failures(seeds: Iterable[int], harm: str = "") -> Iterator[tuple[int, str]]:
    """Yield the seeds that fail, with what is wrong."""
    return failing(partial(run, harm=harm), seeds)
