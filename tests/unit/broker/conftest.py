"""What tests of the broker share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.processes import small_disk
from harness.worlds.broker import World


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB: a little more than the journal leaves free."""
    with small_disk(tmp_path / "disk", "80m") as place:
        yield place


@pytest.fixture
def world() -> World:
    """A scheduler with a client."""
    made = World()
    made.client()
    return made
