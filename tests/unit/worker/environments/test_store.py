"""A node has environments made by processes of their own."""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.processes import eventually, has_ended
from manyhands_shared.protocol import requirements
from manyhands_worker.core.effects import MakeEnvironment
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.environments.store import MAKE_SECONDS, EnvironmentStore
from manyhands_worker.host.process_start import Environment

LINES = ("sums",)
DIGEST = requirements.digest(LINES)
WANTED = MakeEnvironment(DIGEST, LINES, frozenset())


class Loop:
    """A node's loop, with no more than a store."""

    def __init__(self, root: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.made: dict[bytes, Environment] = {}
        self.events: list[EnvironmentMade] = []
        self.store = EnvironmentStore(self.selector, self.made, str(root), "")

    def turn(self, now: float) -> list[EnvironmentMade]:
        """Return what has been made, or could not be, since the start."""
        for key, _ in self.selector.select(0.1):
            key.data(0)
        self.events += self.store.turn(now)
        return self.events


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path / "environments")
    try:
        yield made
    finally:
        made.store.close()
        made.selector.close()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have a script for an installer."""
    uv = folder / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f"#!/bin/sh\n{script}\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")


def test_what_takes_too_long_is_given_up(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    install(
        tmp_path, monkeypatch, f"echo $$ > {said}.draft; mv {said}.draft {said}; exec sleep 999"
    )
    loop.store.make(WANTED, 10.0)
    eventually(said.exists)
    assert loop.turn(10.0) == []
    eventually(lambda: loop.turn(10.0 + MAKE_SECONDS))
    assert loop.events == [EnvironmentMade(DIGEST, "it took longer than 30 minutes")]
    # Nor does the installer run on.
    eventually(lambda: has_ended(int(said.read_text())))
    assert loop.made == {}
    assert loop.store.groups == []


def test_a_failure_has_the_installer_last_lines_and_counts_for_a_while(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    install(tmp_path, monkeypatch, f"echo x >> {runs}; seq 100; exit 3")
    loop.store.make(WANTED, 0.0)
    eventually(lambda: loop.turn(0.0))
    [made] = loop.events
    assert made.reason.startswith("uv venv failed (exit code 3):\n89\n")
    assert made.reason.endswith("\n100")
    loop.store.make(WANTED, 0.0)
    assert loop.store.turn(0.0) == [made]
    assert runs.read_text() == "x\n"


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loop = Loop(tmp_path / "file" / "environments")
    loop.store.make(WANTED, 0.0)
    [made] = loop.store.turn(0.0)
    assert "Not a directory" in made.reason
    assert "--environments-dir" in made.reason
    loop.selector.close()
