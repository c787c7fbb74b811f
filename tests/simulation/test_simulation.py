"""Thousands of simulated worlds in which everything goes wrong, and nothing may be lost."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.broken import HARMS
from simulation.runs import failures, run
from simulation.story import Story

_HERE = Path(__file__).parent
#: Seeds in one run of the tests, in as many shares whatever their number; `make simulate` has 10,000.
SEEDS = int(os.environ.get("MANYHANDS_TEST_SEEDS", "2000"))
SHARES = 16


def kept_seeds() -> list[int]:
    """Seeds that have once failed."""
    lines = [
        line for file in sorted(_HERE.glob("seeds/*.txt")) for line in file.read_text().splitlines()
    ]
    return [int(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_lost_or_doubled_whatever_happens(share: int) -> None:
    found = [f"seed {seed}: {text}" for seed, text in failures(range(share, SEEDS, SHARES))]
    assert not found, "\n".join([*found, "make replay SEED=… tells the story"])


def test_seeds_that_failed_once_hold() -> None:
    assert not list(failures(kept_seeds()))


@pytest.mark.parametrize("harm", HARMS)
def test_broken_software_is_found_out_within_200_seeds(harm: str) -> None:
    found = next(failures(range(200), harm), None)
    assert found is not None, f"{harm}: no seed notices"


def test_a_seed_is_the_same_world_in_every_process() -> None:
    script = (
        "import hashlib; from simulation.runs import run; from simulation.story import Story; "
        "story = Story(); run(3, story=story); "
        "print(hashlib.sha256(str(story).encode()).hexdigest())"
    )
    story = Story()
    run(3, story=story)
    digest = hashlib.sha256(str(story).encode()).hexdigest()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_HERE.parent), *sys.path]),
        "PYTHONHASHSEED": "4711",
    }
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest


def test_the_story_of_a_task_can_be_told() -> None:
    story = Story()
    run(3, story=story)
    lines = story.of_task("j0", 0)
    assert any("runs j0/0" in line for line in lines)
    assert any("gets j0/0" in line for line in lines)
