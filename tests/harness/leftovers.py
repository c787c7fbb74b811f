"""What tests of programs of several processes leave: in processes that go on, and on the machine.

`leaves_nothing_behind` of `tests/conftest.py` sees processes and shared memory that have a name. This
sees descriptors, sockets without a file, memory without a name, and files. Import the fixtures in a
`conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest

from harness.processes import eventually, own_processes

# Many seconds, for a busy machine; less than the minute for which a host agent keeps what a program
# may still claim.
GRACE = float(os.environ.get("MANYHANDS_TEST_GRACE", "50"))
_MEMORY = "memfd:manyhands"
#: How many descriptors, and segments of memory, a warm process may have that it opens once and keeps.
#: A pool's child has those of the program that it served last.
_KEPT_DESCRIPTORS, _KEPT_SEGMENTS = 8, 2
#: The tests that warm a process.
_WARMING = 2
#: A process by its id and when it began.
_Process: TypeAlias = tuple[int, float]
#: What a process has, by its name, and how often.
_Things: TypeAlias = Counter[str]

#: The tests' own process, whatever its id.
_OWN: _Process = (0, 0.0)


@dataclass(frozen=True)
class Traces:
    """What processes of this run have, and the files that they have made."""

    descriptors: dict[_Process, _Things]
    memory: dict[_Process, _Things]
    #: Names of sockets without a file.
    sockets: frozenset[str]
    files: frozenset[str]

    @classmethod
    def now(cls, folder: Path) -> Traces:
        """Look at them; `folder` is where temporary files are made."""
        processes = {_OWN: os.getpid()}
        for pid, process in own_processes().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                processes[pid, process.create_time()] = pid
        descriptors = {key: _descriptors(pid) for key, pid in processes.items()}
        memory = {key: _memory(pid) for key, pid in processes.items()}
        sockets = frozenset().union(
            *(_names(pid, descriptors[key]) for key, pid in processes.items())
        )
        return cls(descriptors, memory, sockets, frozenset(_files(folder)))

    @property
    def of_others(self) -> dict[_Process, _Things]:
        """The descriptors of processes that go on from test to test, without the tests' own."""
        return {process: has for process, has in self.descriptors.items() if process != _OWN}

    def added_to(self, before: Traces, kept: int) -> list[str]:
        """Return names and files that were not there before; for people.

        And descriptors of the tests' own process, if there are more than `kept`. It has the fixtures of
        a module as well, so their number differs from module to module.
        """
        told = []
        own, had = self.descriptors[_OWN], before.descriptors[_OWN]
        if own.total() > had.total() + kept:
            told.append(f"descriptors of this process: {', '.join(sorted(own - had))}")
        if names := self.sockets - before.sockets:
            told.append(f"sockets: {', '.join(sorted(names))}")
        if files := self.files - before.files:
            told.append(f"files: {', '.join(sorted(files))}")
        return told


@pytest.fixture(scope="package")
def scratch() -> Iterator[Path]:
    """Where processes that the tests start make temporary files: none but they."""
    # A node's sockets are in it, whose names must be short.
    with tempfile.TemporaryDirectory(prefix="mh-", dir="/tmp") as folder:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = folder
        yield Path(folder)
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


@pytest.fixture(autouse=True)
def leaves_no_traces(scratch: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which processes have more than before, or files are left.

    A module may say how many descriptors its tests may keep besides: `DESCRIPTORS_KEPT`.
    """
    kept = getattr(request.module, "DESCRIPTORS_KEPT", 0)
    before = Traces.now(scratch)
    yield
    left: list[str] = []

    def gone() -> bool:
        now = Traces.now(scratch)
        left[:] = [
            *now.added_to(before, _KEPT_DESCRIPTORS + kept),
            *_descriptors_when_warm.grown(now.of_others, kept),
            *_memory_when_warm.grown(now.memory),
        ]
        return not left

    try:
        eventually(gone, GRACE)
    except AssertionError:
        pytest.fail(f"left behind: {'; '.join(left)}")
    after = Traces.now(scratch)
    _descriptors_when_warm.note(after.of_others)
    _memory_when_warm.note(after.memory)


class _Warm:
    """How much processes have that go on from test to test.

    What a process opens once, and keeps, is no leak; what it opens in each test is.

    Args:
        what: they have.
        kept: how much more than after their first tests they may have.
    """

    def __init__(self, what: str, kept: int) -> None:
        self._what, self._kept = what, kept
        self._tests: Counter[_Process] = Counter()
        self._most: Counter[_Process] = Counter()

    def note(self, now: dict[_Process, _Things]) -> None:
        """Take note of what processes have after a test."""
        for process, has in now.items():
            self._tests[process] += 1
            if self._tests[process] <= _WARMING:
                self._most[process] = max(self._most[process], has.total())

    def grown(self, now: dict[_Process, _Things], more: int = 0) -> list[str]:
        """Return which of them have more; for people. `more` may be kept besides."""
        return [
            f"{self._what} of process {process[0]}: {has.total()}, once {most}: {', '.join(sorted(has))}"
            for process, has in now.items()
            if self._tests[process] >= _WARMING
            and has.total() > (most := self._most[process]) + self._kept + more
        ]


_descriptors_when_warm = _Warm("descriptors", _KEPT_DESCRIPTORS)
_memory_when_warm = _Warm("memory", _KEPT_SEGMENTS)


def _descriptors(pid: int) -> _Things:
    found: _Things = Counter()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                name = str(entry.readlink())
                if _MEMORY in name:
                    name = f"{name} {entry.stat().st_ino}"
            except OSError:
                continue
            found[name] += 1
    except OSError:
        pass
    return found


def _memory(pid: int) -> _Things:
    """Return the segments that a process maps."""
    found: _Things = Counter()
    try:
        text = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return found
    for line in text.splitlines():
        if _MEMORY in line:
            found[f"segment {line.split()[4]}"] += 1
    return found


def _names(pid: int, descriptors: _Things) -> set[str]:
    """Return the names of sockets without a file that a process has, in its own network."""
    found: set[str] = set()
    try:
        lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        *_, inode, name = line.rsplit(" ", 2)
        if name.startswith("@") and f"socket:[{inode}]" in descriptors:
            found.add(name)
    return found


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder))
