"""A node has environments made by processes of their own."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from harness.processes import eventually, has_ended
from manyhands_shared.protocol import requirements
from manyhands_worker.core.effects import MakeEnvironment
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.environments import store
from manyhands_worker.environments.store import MAKE_SECONDS, SHORTAGE_SECONDS, EnvironmentStore
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


def test_a_failure_has_the_installer_last_lines(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "seq 100; exit 3")
    loop.store.make(WANTED, 0.0)
    eventually(lambda: loop.turn(0.0))
    [made] = loop.events
    assert made.reason.startswith("uv venv failed (exit code 3):\n89\n")
    assert made.reason.endswith("\n100")


def lack(code: int) -> Callable[..., NoReturn]:
    """Return what refuses to start a process, for the system lacks something."""

    def start(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return start


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_what_the_system_lacks_is_waited_for(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    install(tmp_path, monkeypatch, "echo it ran; exit 3")
    with monkeypatch.context() as short:
        short.setattr(subprocess, "Popen", lack(code))
        loop.store.make(WANTED, 0.0)
        assert loop.turn(0.0) == []
        assert loop.store.deadline == 1.0
        assert loop.turn(1.0) == []
        assert loop.store.deadline == 2.0
    # Not before it is time.
    assert loop.turn(1.9) == []
    assert loop.store.groups == []
    eventually(lambda: loop.turn(2.0))
    [made] = loop.events
    assert made.reason == "uv venv failed (exit code 3):\nit ran"


def test_it_is_not_waited_for_without_end(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lack(errno.EAGAIN))
    loop.store.make(WANTED, 0.0)
    for second in range(int(SHORTAGE_SECONDS)):
        assert loop.turn(second) == []
    [made] = loop.turn(SHORTAGE_SECONDS)
    assert made.reason == (
        "the system is short of something: [Errno 11] Resource temporarily unavailable"
    )
    # The next one has as long.
    loop.events.clear()
    loop.store.make(WANTED, 100.0)
    assert loop.turn(100.0 + SHORTAGE_SECONDS - 1.0) == []


def test_a_maker_that_lacked_something_is_started_again(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "echo it ran; exit 3")
    program = store._program()
    before, main = program.rsplit("; ", 1)
    # As soon as it begins, there is no descriptor to open anything with.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 100))"
    with monkeypatch.context() as short:
        short.setattr(store, "_program", lambda: f"{before}; {limit}; {main}")
        loop.store.make(WANTED, 0.0)
        eventually(lambda: loop.turn(0.0) or loop.store.groups == [])
    assert loop.events == []
    due = loop.store.deadline
    assert due is not None
    eventually(lambda: loop.turn(due))
    [made] = loop.events
    assert made.reason == "uv venv failed (exit code 3):\nit ran"


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loop = Loop(tmp_path / "file" / "environments")
    loop.store.make(WANTED, 0.0)
    [made] = loop.store.turn(0.0)
    assert "Not a directory" in made.reason
    assert "--environments-dir" in made.reason
    loop.selector.close()
