"""The agent's side of its member server: forks, signals, deaths, and what members write."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands_worker.agent import member_server as server
from manyhands_worker.agent.core import events

_READ_BYTES = 64 << 10
_PACKET_BYTES = 64
_STDOUT, _STDERR = 1, 2


@dataclass(slots=True)
class _Process:
    #: Its end tells the member that its parent has ended; -1 once it is closed.
    parent: int
    #: What it writes, by stream, if it comes through the agent.
    pipes: dict[int, int]
    hushed: bool = False
    #: Says whether it has written anything.
    poll: select.poll = field(default_factory=select.poll)

    def close_pipe(self, stream: int) -> None:
        """Read a stream no more."""
        descriptor = self.pipes.pop(stream)
        self.poll.unregister(descriptor)
        os.close(descriptor)


class Members:
    """Processes of members, as orders to the server and events from it.

    It must be made before the agent opens a socket or starts a thread, for the server is forked here.

    Args:
        close_in_server: descriptors that are not the server's.

    Raises:
        OSError: the system gives no process.
    """

    def __init__(self, close_in_server: frozenset[int] = frozenset()) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = server.start(theirs, close_in_server | {ours.fileno()})
        self._socket = ours
        self._processes: dict[bytes, _Process] = {}
        self._selector: selectors.BaseSelector | None = None
        self._tell: Callable[[events.Event], None] = lambda _: None
        self._gone = False

    def attach(
        self, selector: selectors.BaseSelector, tell: Callable[[events.Event], None]
    ) -> None:
        """From now on, tell what happens."""
        self._selector, self._tell = selector, tell
        selector.register(self._socket, selectors.EVENT_READ, lambda _: self._hear())

    def fork(self, name: bytes, channel: socket.socket, streams: tuple[int, int] | None) -> None:
        """Have a member forked. Its end of `channel` and `streams` stay the caller's to close.

        Raises:
            OSError: there is no descriptor for it, or no server.
        """
        parent, parent_in = os.pipe()
        opened = [parent, parent_in]
        try:
            pipes: dict[int, int] = {}
            far: list[int] = []
            if streams is None:
                for stream in (_STDOUT, _STDERR):
                    pipes[stream], end = os.pipe()
                    opened += [pipes[stream], end]
                    far.append(end)
            descriptors = (channel.fileno(), parent, *(streams or far))
            rights = array.array("i", descriptors)
            self._socket.sendmsg(
                [server.FORK + name + bytes([streams is None])],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
            )
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        for descriptor in (parent, *far):
            os.close(descriptor)
        process = self._processes[name] = _Process(parent_in, pipes)
        for stream, pipe in pipes.items():
            os.set_blocking(pipe, False)
            process.poll.register(pipe, select.POLLIN)
            self._register(name, process, stream)

    def kill(self, name: bytes, number: int) -> None:
        """Send a member's process a signal; one that has ended gets none."""
        if name in self._processes:
            with contextlib.suppress(OSError):
                self._socket.send(server.KILL + name + server.NUMBER.pack(number))

    def guard(self, until: float) -> None:
        """Have members stopped whose root is elsewhere, if this is not called again by `until`."""
        with contextlib.suppress(OSError):
            self._socket.send(server.GUARD + server.TIME.pack(until))

    def orphan(self, name: bytes) -> None:
        """Tell a member that its parent has ended."""
        process = self._processes.get(name)
        if process is not None and process.parent >= 0:
            os.close(process.parent)
            process.parent = -1

    def hush(self, name: bytes, *, on: bool) -> None:
        """Stop reading what a member writes, or go on."""
        process = self._processes.get(name)
        if process is None or process.hushed is on:
            return
        process.hushed = on
        for stream in process.pipes:
            if on:
                self._unregister(process, stream)
            else:
                self._register(name, process, stream)

    def read(self, name: bytes) -> None:
        """Tell what a member has written so far: that comes before what it says now."""
        process = self._processes.get(name)
        # Asked for first: an exception for each empty pipe takes longer than to pass a message on.
        if process is not None and not process.hushed and process.poll.poll(0):
            for stream in list(process.pipes):
                while self._read(name, process, stream):
                    pass

    def close(self) -> None:
        """Kill what is left, and wait for the server."""
        self._socket.close()
        for process in self._processes.values():
            self._close(process)
        self._processes.clear()
        if not self._gone:
            self._gone = True
            os.waitpid(self._pid, 0)

    def _hear(self) -> None:
        try:
            packet = self._socket.recv(_PACKET_BYTES)
        except OSError:
            packet = b""
        if not packet:
            self._lost()
            return
        what, name = packet[:1], packet[1 : 1 + server.ID_BYTES]
        if what == server.READY:
            return
        (number,) = server.NUMBER.unpack_from(packet, 1 + server.ID_BYTES)
        if what == server.STARTED:
            self._tell(events.Forked(name, number))
        elif what == server.FAILED:
            self._forget(name)
            reason = os.strerror(number) if number else "the system gives no process"
            self._tell(events.NotForked(name, reason))
        elif what == server.ENDED:
            self._ended(name, number)

    def _ended(self, name: bytes, code: int) -> None:
        process = self._processes.get(name)
        if process is not None and process.hushed:
            self.hush(name, on=False)
        self.read(name)
        self._forget(name)
        self._tell(events.Reaped(name, code))

    def _lost(self) -> None:
        """The server has ended: its members were killed by the kernel."""
        if self._selector is not None:
            self._selector.unregister(self._socket)
        self._gone = True
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._tell(events.NoServer("the process that starts members has died"))
        for name in list(self._processes):
            self._ended(name, -signal.SIGKILL)

    def _forget(self, name: bytes) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            self._close(process)

    def _close(self, process: _Process) -> None:
        for stream in list(process.pipes):
            if not process.hushed:
                self._unregister(process, stream)
            process.close_pipe(stream)
        if process.parent >= 0:
            os.close(process.parent)
            process.parent = -1

    def _register(self, name: bytes, process: _Process, stream: int) -> None:
        if self._selector is not None:
            self._selector.register(
                process.pipes[stream],
                selectors.EVENT_READ,
                lambda _: self._read(name, process, stream),
            )

    def _unregister(self, process: _Process, stream: int) -> None:
        if self._selector is not None:
            self._selector.unregister(process.pipes[stream])

    def _read(self, name: bytes, process: _Process, stream: int) -> bool:
        """Read a stream once; return whether there may be more."""
        pipe = process.pipes.get(stream)
        if pipe is None:
            return False
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            if not process.hushed:
                self._unregister(process, stream)
            process.close_pipe(stream)
            return False
        self._tell(events.Printed(name, stream, data))
        return True
