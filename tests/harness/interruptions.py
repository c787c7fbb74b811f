"""Exceptions, and handlers that do something, between any two bytecodes of a call.

CPython looks for signals and asynchronous exceptions when a function begins, behind a call, and at a
jump back. `Interrupter` counts these places on the way through manyhands' own code, and strikes at one.
"""

from __future__ import annotations

import contextlib
import dis
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import manyhands
import manyhands_shared
from harness.processes import eventually

_OURS = tuple(str(Path(*package.__path__)) for package in (manyhands, manyhands_shared))


class Interruption(Exception):
    """What a signal handler raises."""


def interrupt(*_: object) -> None:
    raise Interruption


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Trace nothing in this thread, where an exception may come at any moment.

    In the tracer of `make coverage` it would leave a lock taken, and all threads would wait for that.
    """
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)


class Interrupter:
    """Calls `strike` once, at a place of a call that `run` makes.

    Args:
        strike: what is called there, as a signal handler would be.
        spare: names of functions inside which nothing is struck.
    """

    def __init__(self, strike: Callable[[], None], spare: frozenset[str] = frozenset()) -> None:
        self._strike = strike
        self._spare = spare
        self._at = 0
        self._before: dict[FrameType, str] = {}
        #: Places passed.
        self.passed = 0
        #: Where it struck.
        self.place = ""

    def run(self, call: Callable[[], Any], at: int) -> Any:
        """Make a call, and strike at its place number `at`, from 1; 0: nowhere."""
        self._at, self.passed, self.place = at, 0, ""
        before = sys.gettrace()
        # A collection would run finalizers of earlier tests, and what is raised in those is lost.
        gc.disable()
        sys.settrace(self._enter)
        try:
            return call()
        finally:
            sys.settrace(before)
            gc.enable()
            self._before.clear()

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_OURS) or code.co_name in self._spare:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self._pass(frame)
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "opcode":
            name = _names(frame.f_code)[frame.f_lasti]
            if self._before.get(frame, "").startswith("CALL") or "JUMP_BACKWARD" in name:
                self._pass(frame)
            self._before[frame] = name
        elif event == "return":
            self._before.pop(frame, None)
        return self._step

    def _pass(self, frame: FrameType) -> None:
        self.passed += 1
        if self.passed == self._at:
            self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            sys.settrace(None)
            self._strike()


_known: dict[CodeType, dict[int, str]] = {}


def _names(code: CodeType) -> dict[int, str]:
    if code not in _known:
        _known[code] = {at.offset: at.opname for at in dis.get_instructions(code)}
    return _known[code]


def rest(executor: manyhands.Executor) -> None:
    """Until the I/O thread sleeps and nothing is left to do: the next call is a lone one."""
    loop = executor._connection.io
    lane = loop._inline
    eventually(
        lambda: (
            loop.queue.asleep
            and lane._grant.link is not None
            and not loop._session.unended
            and lane._grant.lone is None
        ),
        what="it is at rest",
        interval=0.001,
    )
