"""Names of namespaces that say whose they are, and the sweeping up after owners that are gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manyhands.testbed._ip import IpError, ip

#: Where iproute2 keeps the namespaces that have a name.
NAMESPACES = Path("/run/netns")
_PREFIX = "manyhands"
_CLONE_NEWNET = 0x40000000


def owned(number: int, role: str) -> str:
    """Return the name of one namespace of this process's test-bed `number`.

    It carries the pid and when that process began. So a later process with the same pid does not pass
    for the owner.
    """
    return f"{_PREFIX}-{os.getpid()}-{_began(os.getpid())}-{number}-{role}"


def unavailable() -> str:
    """Return why this process cannot have hosts in namespaces; empty if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip, of the package iproute2"
    name = owned(os.getpid(), "try")
    try:
        ip("netns", "add", name)
    except IpError as error:
        return f"no network namespace can be made here: {error}"
    remove(name)
    return ""


def sweep() -> list[str]:
    """Remove what test-beds of dead owners left, processes too; return the names removed."""
    found = []
    with suppress(FileNotFoundError):
        found = [entry.name for entry in os.scandir(NAMESPACES)]
    dead = [name for name in found if _is_orphan(name)]
    for name in dead:
        remove(name)
    return dead


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Have the calling thread be in a namespace, and in its own again afterwards."""
    own = Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")
    back = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(back)
    finally:
        os.close(back)


def remove(name: str) -> None:
    """Kill everything in a namespace and delete it; one that is gone already is fine."""
    end_processes(name)
    with suppress(IpError):
        ip("netns", "delete", name)


def end_processes(name: str) -> list[int]:
    """SIGKILL to every process in a namespace; their pids. This process is never among them."""
    ended: list[int] = []
    while pids := [pid for pid in processes(name) if pid not in ended]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended += pids  # and again, for what those had just started
    return ended


def processes(name: str) -> list[int]:
    """Pids of the processes in a namespace, but for this one."""
    try:
        said = ip("netns", "pids", name)
    except IpError:
        return []
    return [pid for pid in map(int, said.split()) if pid != os.getpid()]


def _is_orphan(name: str) -> bool:
    prefix, _, rest = name.partition("-")
    pid, _, rest = rest.partition("-")
    began = rest.partition("-")[0]
    if prefix != _PREFIX or not pid.isdigit() or not began.isdigit():
        return False
    return _began(int(pid)) != int(began)


def _began(pid: int) -> int:
    """When a process began, in the kernel's ticks since boot; -1 if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The command's name, in brackets, may hold anything; field 22 is the 20th behind it.
    return int(text.rpartition(")")[2].split()[19])


def _set_namespace(descriptor: int) -> None:
    """`os.setns`, which Python 3.11 lacks."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
