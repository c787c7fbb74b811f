"""The environments of a node: has them made by processes of their own, a few at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from manyhands_shared.processes.interpreter import run_module
from manyhands_worker.core.effects import MakeEnvironment
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.environments import directory
from manyhands_worker.environments.make import Answer, Order, of_error
from manyhands_worker.host.process_start import Environment
from manyhands_worker.host.processes import describe_exit

log = logging.getLogger("manyhands.worker")

#: What takes longer is given up.
MAKE_SECONDS = 1_800.0
#: Environments that are made at a time.
_AT_ONCE = 2
#: What the system was short of is waited for, this long in all; then another attempt is made.
SHORTAGE_SECONDS, _AGAIN_SECONDS = 60.0, 1.0
#: A maker that has closed its output and has not left by then is killed.
_LEAVE_SECONDS = 1.0


@dataclass(eq=False)
class _Maker:
    """A process that makes an environment, and what it has written so far."""

    wanted: MakeEnvironment
    process: subprocess.Popen[bytes]
    lock: int
    due: float
    output: bytearray = field(default_factory=bytearray)
    late: bool = False


class EnvironmentStore:
    """Makes environments, and holds those that the node needs.

    Args:
        selector: of the node.
        made: those that are there come in here, by the digests of their requirements.
        root: where they lie; empty: in the user's cache.
        key_file: hidden from the installer if that can be done.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        made: dict[bytes, Environment],
        root: str,
        key_file: str,
    ) -> None:
        self._selector = selector
        self._root = root
        self._key_file = key_file
        self._made = made
        # Their locks, which this node shares with others.
        self._locks: dict[bytes, int] = {}
        self._waiting: deque[MakeEnvironment] = deque()
        self._makers: dict[bytes, _Maker] = {}
        # Until when those are tried again that the system was short of something for; and the next time.
        self._short: dict[bytes, float] = {}
        self._again = 0.0
        self._events: list[EnvironmentMade] = []

    @property
    def deadline(self) -> float:
        """When `turn` has something to do, if no descriptor does."""
        if self._events:
            return 0.0
        times = [maker.due for maker in self._makers.values()]
        if self._waiting and len(self._makers) < _AT_ONCE:
            times.append(self._again)
        return min(times, default=math.inf)

    @property
    def groups(self) -> list[int]:
        """Process groups that must not outlive the node."""
        return [maker.process.pid for maker in self._makers.values()]

    def make(self, wanted: MakeEnvironment, now: float) -> None:
        """Have an environment made; `EnvironmentMade` follows."""
        for other in self._locks.keys() - wanted.keep:
            os.close(self._locks.pop(other))
            del self._made[other]
        self._waiting.append(wanted)
        self._start_next(now)

    def turn(self, now: float) -> list[EnvironmentMade]:
        """Give up what takes too long; return what has been made, or could not be."""
        for maker in self._makers.values():
            if now >= maker.due and not maker.late:
                maker.late, maker.due = True, now + MAKE_SECONDS
                _kill(maker.process)
        self._start_next(now)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End what is being made; use no environment any more."""
        for maker in self._makers.values():
            self._selector.unregister(_stdout(maker.process))
            _kill(maker.process)
            _reap(maker.process)
            os.close(maker.lock)
        self._makers.clear()
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    def _start_next(self, now: float) -> None:
        while self._waiting and len(self._makers) < _AT_ONCE and now >= self._again:
            wanted = self._waiting.popleft()
            try:
                self._start(wanted, now)
            except OSError as error:
                self._conclude(wanted, of_error(error), now)

    def _start(self, wanted: MakeEnvironment, now: float) -> None:
        root = Path(self._root) if self._root else directory.default()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory.node_path()
        place = root.resolve() / directory.name_of(wanted.requirements, path)
        lock = os.open(directory.lock_file(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        order = Order(str(place), [*wanted.requirements], path, lock, os.getpid(), self._key_file)
        try:
            with tempfile.TemporaryFile() as told:
                told.write(json.dumps(order).encode())
                told.seek(0)
                process = subprocess.Popen(
                    [sys.executable, "-c", _program()],
                    stdin=told,
                    stdout=subprocess.PIPE,
                    pass_fds=[lock],
                    # So that it can be killed with the installer.
                    process_group=0,
                )
        except OSError:
            os.close(lock)
            raise
        maker = _Maker(wanted, process, lock, now + MAKE_SECONDS)
        self._makers[wanted.environment] = maker
        self._selector.register(_stdout(process), selectors.EVENT_READ, lambda _: self._read(maker))
        log.info("making an environment for %s", ", ".join(wanted.requirements)[:1_000])

    def _read(self, maker: _Maker) -> None:
        data = os.read(_stdout(maker.process), 1 << 16)
        if data:
            maker.output += data
            return
        self._selector.unregister(_stdout(maker.process))
        code = _reap(maker.process)
        environment = maker.wanted.environment
        del self._makers[environment]
        answer = _answer(maker, code)
        if answer.reason:
            os.close(maker.lock)
        else:
            self._locks[environment] = maker.lock
        now = time.monotonic()
        self._conclude(maker.wanted, answer, now)
        self._start_next(now)

    def _conclude(self, wanted: MakeEnvironment, answer: Answer, now: float) -> None:
        environment = wanted.environment
        if answer.is_short and now < self._short.setdefault(environment, now + SHORTAGE_SECONDS):
            log.warning("an environment cannot be made yet, trying again: %s", answer.reason)
            self._waiting.append(wanted)
            self._again = now + _AGAIN_SECONDS
            return
        self._short.pop(environment, None)
        if answer.reason:
            log.warning("an environment cannot be made: %s", answer.reason)
        else:
            self._made[environment] = Environment(answer.interpreter, tuple(answer.path))
        self._events.append(EnvironmentMade(environment, answer.reason))


def _program() -> str:
    return run_module("manyhands_worker.environments.make", sys.path, None, ())


def _answer(maker: _Maker, code: int) -> Answer:
    if maker.late:
        return Answer(reason=f"it took longer than {MAKE_SECONDS / 60:g} minutes")
    try:
        return Answer(*json.loads(maker.output.splitlines()[-1]))
    except (IndexError, ValueError):
        return Answer(reason=f"the installer's process {describe_exit(code)}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Release a process that leaves, and end what it has started; return its exit code."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_LEAVE_SECONDS)
    _kill(process)
    with process:
        return process.wait()


def _stdout(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return process.stdout.fileno()
