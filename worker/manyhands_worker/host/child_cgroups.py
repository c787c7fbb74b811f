"""Control groups for a node's children: whatever a task starts stays in its child's group.

A process that begins a session of its own leaves the process group of the child, and outlives it. It
cannot leave the control group. Where the node may not make any (version 2 alone has what it takes),
`escaped_processes` does what can be done without.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path

_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_LEAVE_SECONDS = 2.0
_POLL_SECONDS = 0.01


class ChildCgroup:
    """A control group of the node's own with one below it for each child.

    Args:
        path: its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._leaving: list[Path] = []

    @classmethod
    def make(cls) -> ChildCgroup | None:
        """Make one below the group of this process; None: that may not be."""
        here = own_group()
        if here is None:
            return None
        tidy(here)
        path = here / f"manyhands-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            path.mkdir()
        except OSError:
            return None
        if (path / "cgroup.kill").exists():  # Linux 5.14
            delegate_memory(here, path)
            return cls(path)
        path.rmdir()
        return None

    def enter(self, pid: int) -> None:
        """Put a child into a group of its own, before it runs any task."""
        place = self.path / str(pid)
        try:
            place.mkdir()
            (place / "cgroup.procs").write_text(str(pid))
        except OSError:
            with contextlib.suppress(OSError):
                place.rmdir()

    def seek(self, _pid: int) -> None:
        """Nothing is to be sought: all is in here."""

    def kill(self, pid: int) -> None:
        """SIGKILL a child and all that it has started."""
        _kill(self.path / str(pid))

    def leave(self, pid: int) -> None:
        """Remove the group of a child that is dead, with all that is left in it."""
        self.kill(pid)
        self._leaving.append(self.path / str(pid))
        self._leaving = [place for place in self._leaving if not removed(place)]

    def look(self, _children: Collection[int]) -> None:
        """Nothing can leave it."""

    @property
    def groups(self) -> list[int]:
        """Process groups to be killed with the node: none but those in here."""
        return []

    def close(self) -> None:
        """Kill everything in it, and remove it."""
        sweep(self.path)


def sweep(path: Path) -> None:
    """Kill everything in a group and those below it, and remove them; within two seconds, or not."""
    _kill(path)
    end = time.monotonic() + _LEAVE_SECONDS
    while time.monotonic() < end:
        if removed(path):
            return
        time.sleep(_POLL_SECONDS)  # the kernel takes a moment


def tidy(here: Path) -> None:
    """Remove empty groups of nodes that are no more: those of nodes themselves, and what is left."""
    for old in here.glob("manyhands-[0-9]*-*"):
        if not Path(f"/proc/{old.name.split('-')[1]}").exists():
            removed(old)


def _kill(group: Path) -> None:
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")


def removed(group: Path) -> bool:
    """Remove a control group and the empty ones below it; return whether it is gone.

    A task may have made some: a cluster of its own, say, whose node was killed.
    """
    places = [group]
    for place in places:
        try:
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            places += _below(place)
    for place in reversed(places[1:]):
        with contextlib.suppress(OSError):
            place.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def _below(group: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(group) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def delegate_memory(here: Path, path: Path) -> None:
    """Let the groups below `path` have limits of memory, if `here` has memory to give."""
    with contextlib.suppress(OSError):
        if "memory" not in (path / "cgroup.controllers").read_text().split():
            _step_aside(here)
        (path / "cgroup.subtree_control").write_text("+memory")


def _step_aside(here: Path) -> None:
    """Leave `here` for a group below it: one whose groups have limits has no process of its own.

    Raises:
        OSError: this process is not alone in it, or may not; it is where it was.
    """
    me = str(os.getpid())
    if (here / "cgroup.procs").read_text().split() != [me]:
        raise PermissionError(f"there are others in {here}")
    aside = here / f"manyhands-{me}-node"
    aside.mkdir()
    try:
        (aside / "cgroup.procs").write_text(me)
        (here / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        (here / "cgroup.procs").write_text(me)
        aside.rmdir()
        raise


def own_group() -> Path | None:
    """Return the group of this process, of version 2, if it may make others below it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            for root in _ROOTS:
                group = Path(root + path)
                if (group / "cgroup.procs").exists() and os.access(group, os.W_OK):
                    return group
    return None
