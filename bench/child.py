"""Programs that print JSON by the line: each line in bounded time, and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_CLOSE_SECONDS = 20.0
_POLL_SECONDS = 0.2
#: For what an ended process has said to be read, where what it left behind keeps the pipe open.
_DRAIN_SECONDS = 2.0
#: In the environment of everything that a child starts, so that it can be found.
_MARK = "BENCH_CHILD"


class Failure(Exception):
    """It ended badly, or said nothing for too long."""


def answers(
    python: Path, arguments: list[str], seconds: float, count: int = 1
) -> Iterator[dict[str, Any]]:
    """The `count` JSON objects that an interpreter prints, each within `seconds` of the one before.

    Behind the last it has a moment to end by itself.

    Raises:
        Failure: it gave fewer. Those that came have been yielded.
    """
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        [python, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            _MARK: mark,
            "PYTHONPATH": str(Path.cwd()),
            "PYTHONWARNINGS": "ignore",
            # Some start programs of their own by name.
            "PATH": os.pathsep.join((str(python.parent.absolute()), os.environ.get("PATH", ""))),
        },
    )
    errors: list[str] = []
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True),
        threading.Thread(target=_read_errors, args=(process.stderr, errors), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        while count:
            line = _next(lines, process, seconds)
            if line is None:
                threads[1].join(_DRAIN_SECONDS)
                raise Failure(next(iter(reversed(errors)), f"exit code {process.wait()}"))
            if line.startswith("{"):
                count -= 1
                yield json.loads(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_CLOSE_SECONDS)
    finally:
        _end(process, mark)
        for thread in threads:  # they end with the last that could write to the pipes
            thread.join(_CLOSE_SECONDS)


def answer(python: Path, arguments: list[str], seconds: float) -> dict[str, Any]:
    """The first JSON object that an interpreter prints.

    Raises:
        Failure: there is none.
    """
    [only] = answers(python, arguments, seconds)
    return only


def _next(
    lines: queue.SimpleQueue[str | None], process: subprocess.Popen[str], seconds: float
) -> str | None:
    """The next line, or `None` behind the last. What it left behind may keep the pipe open."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended = process.poll() is not None
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=_DRAIN_SECONDS if ended else _POLL_SECONDS)
        if ended:
            return None
    raise Failure(f"no answer within {seconds:g} s")


def _read_lines(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _read_errors(stream: IO[str], errors: list[str]) -> None:
    """Keep the last line that says something."""
    with stream:
        for line in stream:
            if line.strip():
                errors[:] = [line.strip()]


def _end(process: subprocess.Popen[str], mark: str) -> None:
    """Kill what is left of it: a system that failed may leave servers behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid in _marked(mark):
        with contextlib.suppress(ProcessLookupError):
            _kill(pid)


def _kill(pid: int) -> None:
    """Kill a process, and wait until it is dead: what comes next is measured."""
    watch = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([watch], [], [], _CLOSE_SECONDS)
    finally:
        os.close(watch)


def family() -> list[int]:
    """Everything that a child has started, itself included, detached or not; from within that child."""
    mark = os.environ.get(_MARK)
    return _marked(mark) if mark else [os.getpid()]


def _marked(mark: str) -> list[int]:
    wanted, found = f"{_MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
