"""The member server: a process with one thread from which members are forked, and which reaps them.

The host agent starts it before it opens anything itself. It has loaded what every member needs. It
takes one packet for each order, over a `SOCK_SEQPACKET` socket, and answers likewise::

    F id away (4 descriptors)  fork a member      S id pid    its process is there
    K id signal                send it a signal   X id errno  the system gives none
    G time                     guard, see below   E id code   it has ended, with a code as `Popen` has it
                                                  R           ready: the modules are loaded

It alone sends signals, so that none reaches a process that has got the number of a dead one. When the
agent is gone, it kills every member and ends.

It also guards against an agent that stands still. At the time of the last `G` it stops members
whose root is `away`, for then the broker may give away what they hold. A later `G` says that it has
not.
"""

from __future__ import annotations

import array
import contextlib
import gc
import math
import os
import select
import signal
import socket
import struct
import time
from importlib import import_module
from typing import NoReturn

from manyhands_worker.agent.dedicated import Descriptors, be_member
from manyhands_worker.host.processes import kill_orphans

FORK, KILL, GUARD, STARTED, FAILED, ENDED, READY = b"F", b"K", b"G", b"S", b"X", b"E", b"R"
NUMBER, TIME = struct.Struct("<i"), struct.Struct("<d")
ID_BYTES = 16
_PACKET_BYTES = 64
#: The member's channel, both ends of what tells it of its parent's end, and its streams.
_MOST_DESCRIPTORS = 8
_ROOM = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
#: Loaded before the first member is forked. The client's part is none of this package's.
_PRELOAD = ("manyhands.multiprocessing._processes.child",)


def load_modules() -> None:
    """Load what every member needs."""
    for module in _PRELOAD:
        import_module(module)


def start(agent: socket.socket, keep: frozenset[int]) -> int:
    """Fork the server from this process; return its pid.

    Args:
        agent: the server's end of the socket.
        keep: descriptors of this process that the server closes, as it has nothing to do with them.

    Raises:
        OSError: the system gives no process.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        for descriptor in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        MemberServer(agent).serve()
    finally:
        os._exit(1)


class MemberServer:
    """Serves until the agent is gone.

    Args:
        agent: the end of a `SOCK_SEQPACKET` pair.
    """

    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._pids: dict[bytes, int] = {}
        self._ids: dict[int, bytes] = {}
        self._away: set[bytes] = set()
        self._guard_at = math.inf
        self._stopped: set[bytes] = set()

    def serve(self) -> NoReturn:
        """Take orders; end with the agent."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        load_modules()
        gc.collect()
        gc.freeze()
        self._own = (woken, wake)
        self._agent.setblocking(True)
        self._say(READY)
        poll = select.poll()
        poll.register(self._agent, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._timeout())}
            if woken.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                self._reap()
            if self._agent.fileno() in ready:
                if not self._obey():
                    self._end()
            elif time.monotonic() >= self._guard_at:
                self._stop()

    def _obey(self) -> bool:
        """Take one order; return whether there is an agent."""
        try:
            packet, ancillary, _, _ = self._agent.recvmsg(
                _PACKET_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return False
        if not packet:
            return False
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        order, name = packet[:1], packet[1 : 1 + ID_BYTES]
        if order == FORK:
            if packet[-1]:
                self._away.add(name)
            self._fork(name, list(descriptors))
        elif order == GUARD:
            self._guard(*TIME.unpack_from(packet, 1))
        elif order == KILL:
            (number,) = NUMBER.unpack_from(packet, 1 + ID_BYTES)
            self._kill(name, number)
        return True

    def _fork(self, name: bytes, descriptors: list[int]) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._away.discard(name)
            self._say(FAILED, name, error.errno or 0)
        else:
            if not pid:
                try:
                    self._let_go()
                    be_member(name, Descriptors(*descriptors), server)
                finally:
                    os._exit(1)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            self._pids[name], self._ids[pid] = pid, name
            self._say(STARTED, name, pid)
        for descriptor in descriptors:
            os.close(descriptor)

    def _let_go(self) -> None:
        """In a member: leave what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._agent.close()
        for end in self._own:
            end.close()

    def _timeout(self) -> int | None:
        if self._guard_at == math.inf:
            return None
        return max(0, math.ceil((self._guard_at - time.monotonic()) * 1000))

    def _stop(self) -> None:
        """The agent has not spoken in time: stop what may lose what it holds."""
        self._guard_at = math.inf
        for name in self._away:
            self._kill(name, signal.SIGSTOP)
        self._stopped |= self._away

    def _guard(self, until: float) -> None:
        self._guard_at = until
        if until > time.monotonic():
            for name in self._stopped & self._away:
                self._kill(name, signal.SIGCONT)
            self._stopped.clear()

    def _kill(self, name: bytes, number: int) -> None:
        pid = self._pids.get(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _reap(self) -> None:
        while self._ids:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name = self._ids.pop(pid, None)
            if name is None:
                continue
            del self._pids[name]
            self._away.discard(name)
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                # What it has started ends with it, as it cannot see to that any more.
                kill_orphans(pid)
            self._say(ENDED, name, code)

    def _say(self, what: bytes, name: bytes = b"", number: int = 0) -> None:
        with contextlib.suppress(OSError):  # without an agent, the next look at the socket tells
            self._agent.send(what + name + (NUMBER.pack(number) if name else b""))

    def _end(self) -> NoReturn:
        for pid in self._ids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            kill_orphans(pid)
        os._exit(0)
