"""What tests of every part share: bounded waiting on a condition, and looking for leftovers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import pytest

T = TypeVar("T")

#: Every process that a test run starts inherits this variable, however often it is re-parented.
RUN_TAG = "MANYHANDS_TEST_RUN"
#: Names the mounts of tests, with the process that made them.
_DISK = "manyhands-test-disk-"
_PORTS = range(20_000, 32_000)
_SHARED_MEMORY = Path("/dev/shm")
#: RawArray arenas, SharedMemory blocks, POSIX semaphores of multiprocessing, and our own names.
_SEGMENT = re.compile(r"(pym-|psm_|sem\.mp-|manyhands)")
_WAITS = re.compile(
    r"^manyhands: no broker answers |^manyhands: nothing runs of [\d,]+ unfinished tasks?: "
    r"|the broker did not run for [\d.]+ s; leases|no broker has let this node in yet at "
)
#: Helpers of multiprocessing that live as long as the interpreter which started them.
_LONG_LIVED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def eventually(
    predicate: Callable[[], T | Literal[False] | None],
    timeout: float = 100.0,
    *,
    interval: float = 0.01,
    what: str = "",
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


def without_waits(errors: str) -> str:
    """Return what a program wrote to standard error, without what a busy machine adds to it.

    That are notes of parts that wait for others, and of one that did not run for a while.
    """
    return "".join(one for one in errors.splitlines(keepends=True) if not _WAITS.search(one))


class Gate:
    """What tasks in other processes wait for, without looking again and again: the lock of a file.

    Args:
        path: the file, made here; tasks are given it to call `wait_at`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = path.open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let everybody through, from now on; more than once does no harm."""
        self._held.close()


def wait_at(gate: Path) -> str:
    """Wait until the `Gate` at this path is open; ``"through"``."""
    with gate.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    return "through"


def calls_of(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[tuple[Any, ...]]:
    """The arguments of each call of ``owner.name`` from now on, which still does what it does."""
    noted: list[tuple[Any, ...]] = []
    real = getattr(owner, name)

    def noting(*arguments: Any) -> Any:
        noted.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(owner, name, noting)
    return noted


def import_path() -> dict[str, str]:
    """The variable by which another interpreter finds the modules that this one finds."""
    return {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


def has_ended(process: int | psutil.Process) -> bool:
    """Whether a process, or that of this pid, does nothing any more; it may be a zombie for a while."""
    try:
        there = psutil.Process(process) if isinstance(process, int) else process
        return not there.is_running() or bool(there.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free, for TCP and for UDP, and that stays free while its owner restarts.

    It lies below those that the system gives to outgoing connections. A client that tries again and
    again to reach the port would sooner or later be given it as its own.
    """
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((host, port))
                udp.bind((host, port))
            except OSError:
                continue
            return port


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


def described(process: psutil.Process) -> str:
    """Say what a process is: its pid, its parent, its age and its command line."""
    try:
        with process.oneshot():
            age = time.time() - process.create_time()
            command = " ".join(process.cmdline()) or process.name()
            return f"{process.pid} (of {process.ppid()}, {age:.1f} s old): {command}"
    except psutil.Error as error:
        return str(error)


def segments() -> set[str]:
    """Names of shared memory segments of the kinds that manyhands and multiprocessing make."""
    if not _SHARED_MEMORY.is_dir():
        return set()
    return {
        entry.name
        for entry in os.scandir(_SHARED_MEMORY)
        if _SEGMENT.match(entry.name) and _owner(entry) == os.getuid()
    }


def lent_memory(pid: int) -> set[int]:
    """Inodes of the segments to lend, or borrowed, that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "memfd:manyhands" in str(entry.readlink()):
                found.add(entry.stat().st_ino)
        except OSError:
            continue
    return found


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


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `place`, gone afterwards. Skips the test if it cannot be had.

    `size` is as for a tmpfs: ``8m``. What a killed run has left mounted is unmounted first.
    """
    _unmount_leftovers()
    place.mkdir()
    source = f"{_DISK}{os.getpid()}"
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", source, str(place)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield place
    finally:
        # Lazily, for a failed test may still have files open there.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _unmount_leftovers() -> None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, place, *_ = line.split(" ")
        owner = source.removeprefix(_DISK)
        if owner != source and not psutil.pid_exists(int(owner)):
            subprocess.run(["umount", "--lazy", place], check=False)


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


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing; what is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
