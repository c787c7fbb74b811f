"""The heartbeat: a process of its own that tells the broker by UDP that this host is alive.

Being a process, it goes on while a task holds every core and while the node's own loop is busy. What
it reports of that loop (turns, running tasks) it reads from memory that it shares with the node.
There it also finds where to send. It also sweeps up: when the node dies of SIGKILL, this process sees it
first, kills whatever the node's children have left running, and leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from manyhands_worker.host.cgroup import memory_limit, memory_room
from manyhands_worker.host.child_cgroups import sweep
from manyhands_worker.host.process_start import starting
from manyhands_worker.host.processes import BaseProcess, kill_orphans, let_fork_server_go

_TARGET = struct.Struct("<IId32s")  # port, row, interval, key
_WORDS = 5
_TARGET_AT = _WORDS * 8
_HOST_AT = _TARGET_AT + _TARGET.size
_HOST_BYTES = 256
_PIDS_AT = -(-(_HOST_AT + _HOST_BYTES) // 8) * 8
_MOST_PIDS = 4_096
_VERSION, _COUNTER, _TURNS, _RUNNING, _PIDS = range(_WORDS)
_START_SECONDS = 0.3
#: How often to look whether there is something to send to, before the first welcome.
_IDLE_SECONDS = 1.0
#: Beats from one sum of all processes' memory to the next; it moves slowly and costs most.
_MEMORY_EVERY = 5


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, how often (seconds), and what the broker gave for it."""

    host: str
    port: int
    row: int
    interval: float
    key: bytes


class SharedStatus:
    """The memory that a node and its heartbeat share. The node writes, the heartbeat reads.

    A target is guarded by a version, odd while it is being written.
    """

    def __init__(self, raw: Any = None) -> None:
        self.raw = RawArray("B", _PIDS_AT + 8 * _MOST_PIDS) if raw is None else raw
        self._bytes = memoryview(self.raw).cast("B")
        self._words = self._bytes[:_TARGET_AT].cast("Q")
        self._pids = self._bytes[_PIDS_AT:].cast("Q")

    def aim(self, target: Target) -> None:
        """Send to `target` from now on."""
        host = target.host.encode()[: _HOST_BYTES - 1]
        self._words[_VERSION] += 1
        _TARGET.pack_into(
            self._bytes, _TARGET_AT, target.port, target.row, target.interval, target.key
        )
        self._bytes[_HOST_AT : _HOST_AT + _HOST_BYTES] = host.ljust(_HOST_BYTES, b"\0")
        self._words[_VERSION] += 1

    def target(self) -> Target | None:
        """Where to send, or None if that is not known or just being changed."""
        version = self._words[_VERSION]
        port, row, interval, key = _TARGET.unpack_from(self._bytes, _TARGET_AT)
        host = bytes(self._bytes[_HOST_AT : _HOST_AT + _HOST_BYTES]).rstrip(b"\0").decode()
        if not version or version % 2 or version != self._words[_VERSION]:
            return None
        return Target(host, port, row, interval, key)

    def turn(self, running: int) -> None:
        """Note that the node's loop has turned once more, with `running` slots at work."""
        self._words[_TURNS] += 1
        self._words[_RUNNING] = running

    def loop(self) -> tuple[int, int]:
        """Turns of the node's loop, and slots at work."""
        return self._words[_TURNS], self._words[_RUNNING]

    def set_children(self, pids: list[int]) -> None:
        """The processes of the node's children."""
        pids = pids[:_MOST_PIDS]
        self._words[_PIDS] = 0
        for at, pid in enumerate(pids):
            self._pids[at] = pid
        self._words[_PIDS] = len(pids)

    def children(self) -> list[int]:
        """The processes of the node's children."""
        return list(self._pids[: self._words[_PIDS]])

    def next_counter(self) -> int:
        """A number above all that any heartbeat process of this node has used."""
        self._words[_COUNTER] += 1
        return self._words[_COUNTER]


class Heartbeat(BaseProcess):
    """The heartbeat process of one node.

    Args:
        raw: the shared memory of a `SharedStatus`.
        boot_id: the node's.
        scratch: a directory of the node's own, removed if the node could not do so itself.
        cgroups: the control groups of the node's children, emptied and removed likewise.
    """

    def __init__(
        self, raw: Any, boot_id: bytes, scratch: str, cgroups: Sequence[Path] = ()
    ) -> None:
        super().__init__(name="manyhands-heartbeat")
        self._raw = raw
        self._boot_id = boot_id
        self._scratch = scratch
        self._cgroups = cgroups

    @classmethod
    def launch(
        cls, status: SharedStatus, boot_id: bytes, scratch: str, cgroups: Sequence[Path] = ()
    ) -> Heartbeat:
        """Start one.

        Raises:
            OSError, EOFError: the system does not give a process.
        """
        process = cls(status.raw, boot_id, scratch, cgroups)
        with starting():
            process.start()
        return process

    def run(self) -> None:
        """Send until the node is gone; then sweep up, unless it is the fork server that died."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_fork_server_go()
        status = SharedStatus(self._raw)
        node = parent_process()
        if node is not None and self._send_until_dead(status, node.pid or 0, node.sentinel):
            self._sweep(status)

    def _send_until_dead(self, status: SharedStatus, node: int, sentinel: int) -> bool:
        """Send while all is well. Returns whether it is the node that has died."""
        server = os.getppid()
        # It is there from the start to sweep up, but what costs time waits. A node's first task
        # should not have to share the processor with it.
        if wait([sentinel], timeout=_START_SECONDS):
            return True
        figures, sender = _Figures(node), _Sender(self._boot_id)
        while True:
            target = status.target()
            pause = _IDLE_SECONDS if target is None else target.interval
            if wait([sentinel], timeout=pause):
                return True
            if os.getppid() != server:
                return False  # the fork server is dead, and the node starts another of these
            if target is not None and target.port:
                sender.send(target, status, figures.take(status.children()))

    def _sweep(self, status: SharedStatus) -> None:
        for pid in status.children():
            kill_orphans(pid)
        for cgroup in self._cgroups:
            sweep(cgroup)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


class _Sender:
    """A UDP socket of the right family for the present target."""

    def __init__(self, boot_id: bytes) -> None:
        # Here and not above, for the node loads this module too and signs nothing.
        from manyhands_shared.protocol import heartbeat  # noqa: PLC0415

        self._beat = heartbeat
        self._boot_id = boot_id
        self._target: Target | None = None
        self._socket: socket.socket | None = None

    def send(
        self, target: Target, status: SharedStatus, figures: tuple[float, int, int, float]
    ) -> None:
        """Send one datagram. What does not go out is lost: there will be another."""
        # Looking a name up may take long or fail; the next beat tries again.
        with contextlib.suppress(OSError):
            if target != self._target or self._socket is None:
                self._connect(target)
            if self._socket is not None:
                turns, running = status.loop()
                datagram = self._beat.Beat(
                    target.row, self._boot_id, status.next_counter(), turns, running, *figures
                )
                self._socket.send(self._beat.encode(datagram, target.key))

    def _connect(self, target: Target) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        family, kind, protocol, _, address = socket.getaddrinfo(
            target.host, target.port, type=socket.SOCK_DGRAM
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        self._socket = sock  # owned before connect can fail
        sock.connect(address)
        self._target = target


class _Figures:
    """What psutil says about the node's processes and its host."""

    def __init__(self, node: int) -> None:
        # Here and not above, for the fork server and so the pool's children would load it too.
        import psutil  # noqa: PLC0415

        self._psutil = psutil
        self._node = node
        self._processes: dict[int, Any] = {}
        self._used: dict[int, float] = {}
        self._at = time.monotonic()
        self._beats = 0
        self._rss = 0
        self._limited = memory_limit() is not None

    def take(self, children: list[int]) -> tuple[float, int, int, float]:
        """CPU in cores since the last call, resident bytes, available bytes, load average."""
        pids = {self._node, os.getpid(), *children}
        for pid in self._processes.keys() - pids:
            del self._processes[pid]
            self._used.pop(pid, None)
        weigh = self._beats % _MEMORY_EVERY == 0
        self._beats += 1
        cpu, rss = 0.0, 0
        for pid in pids:
            try:
                process = self._processes.get(pid) or self._psutil.Process(pid)
                self._processes[pid] = process
                times = process.cpu_times()
                if weigh:
                    rss += process.memory_info().rss
            except self._psutil.Error:
                continue  # gone meanwhile
            used = times.user + times.system
            cpu += used - self._used.get(pid, used)
            self._used[pid] = used
        if weigh:
            self._rss = rss
        now = time.monotonic()
        passed, self._at = now - self._at, now
        return cpu / max(passed, 1e-3), self._rss, self._available(), os.getloadavg()[0]

    def _available(self) -> int:
        """Bytes that programs can still have, on the machine and in the node's control group."""
        available = int(self._psutil.virtual_memory().available)
        if not self._limited:
            return available
        room = memory_room()
        return available if room is None else min(available, room)
