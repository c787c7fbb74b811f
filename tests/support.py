"""What tests of every part share: bounded waiting on a condition, and looking for leftovers."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

#: Every process that a test run starts inherits this variable, however often it is re-parented.
RUN_TAG = "MANYHANDS_TEST_RUN"
_SHARED_MEMORY = Path("/dev/shm")
#: RawArray arenas, SharedMemory blocks, POSIX semaphores of multiprocessing, and our own names.
_SEGMENT = re.compile(r"(pym-|psm_|sem\.mp-|manyhands)")
#: Helpers of multiprocessing that live as long as the interpreter which started them.
_LONG_LIVED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def eventually(
    predicate: Callable[[], T], timeout: float = 20.0, *, interval: float = 0.01, what: str = ""
) -> T:
    """Wait until `predicate()` is true and return what it gave.

    Raises:
        AssertionError: it was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what or predicate}")
        pause.wait(interval)


def own_processes() -> dict[int, psutil.Process]:
    """Living processes which this test run started, by pid; not the run itself, nor zombies."""
    me = psutil.Process()
    found = {child.pid: child for child in me.children(recursive=True)}
    tag = f"{RUN_TAG}={os.environ[RUN_TAG]}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) not in found and tag in (entry / "environ").read_bytes():
                found[int(entry.name)] = psutil.Process(int(entry.name))
        except (OSError, psutil.Error):
            continue
    found.pop(me.pid, None)
    return {pid: process for pid, process in found.items() if _is_living(process, me.pid)}


def started_since(before: dict[int, psutil.Process]) -> list[psutil.Process]:
    """Processes of this run that are not in `before`, nor the doing of a process that is."""
    return [
        process
        for process in own_processes().values()
        if process not in before.values() and not _descends(process, before)
    ]


def segments() -> set[str]:
    """Names of shared memory segments of the kinds that manyhands and multiprocessing make."""
    if not _SHARED_MEMORY.is_dir():
        return set()
    return {
        entry.name
        for entry in os.scandir(_SHARED_MEMORY)
        if _SEGMENT.match(entry.name) and _owner(entry) == os.getuid()
    }


def orphaned(names: set[str]) -> set[str]:
    """Those of the segments `names` that still exist and that no living process has mapped."""
    names = names & segments()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if not names:
            break
        try:
            text = maps.read_text()
        except OSError:
            continue
        names = {name for name in names if f"/dev/shm/{name}" not in text}
    return names


def _is_living(process: psutil.Process, run: int) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        helper = process.ppid() == run and any(
            name in " ".join(process.cmdline()) for name in _LONG_LIVED
        )
    except psutil.Error:
        return False
    return not helper


def _descends(process: psutil.Process, before: dict[int, psutil.Process]) -> bool:
    try:
        return any(parent in before.values() for parent in process.parents())
    except psutil.Error:
        return False


def _owner(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_uid
    except OSError:
        return -1
