"""The ends of streams on this host: the agent reads and writes them for other hosts."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands_shared.protocol.messages.coordination import BOTH, CONNECTS, RECEIVES, SENDS
from manyhands_worker.agent.core import effects, events

_READ_BYTES = 256 << 10
#: What comes with a new connection for what listens.
_CONNECTION = b"C"


@dataclass(slots=True)
class _End:
    """One end. A socket may be read and written, a pipe one of the two."""

    descriptor: int
    #: The same; a pipe has none. Descriptions are shared with processes that may want to wait.
    sock: socket.socket | None = None
    #: The member that has the other side of it, as far as that is known.
    member: bytes = b""
    #: Whether processes may hold the same socket, so that to shut it down would be to shut theirs.
    shared: bool = False
    #: How much may be read, and whether there may be something to read.
    room: int = 0
    reads: bool = True
    writes: bool = True
    waiting: deque[memoryview] = field(default_factory=deque)
    #: To be done when all is written.
    ends: bool = False
    closes: bool = False
    polled: int = 0


class StreamEnds:
    """Moves bytes as the core has it moved, and tells it what happens.

    Args:
        selector: of the agent.
        tell: takes events.
        read_output: reads what a member has printed so far; that goes first.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        tell: Callable[[events.Event], None],
        read_output: Callable[[bytes], None],
    ) -> None:
        self._selector = selector
        self._tell = tell
        self._read_output = read_output
        self._ends: dict[bytes, _End] = {}

    def make(self, effect: effects.MakeEnd, give: Callable[[int], None]) -> None:
        """Make an end and the member's other side of it, which `give` sends on."""
        try:
            ours, theirs = _pair(effect.way)
        except OSError as error:
            self._tell(events.StreamFailed(effect.stream, str(error)))
            return
        # What the member sends is read here.
        reads, writes = effect.way != RECEIVES, effect.way != SENDS
        self._add(effect.stream, ours, effect.member, reads=reads, writes=writes)
        give(theirs)
        os.close(theirs)

    def attach(self, effect: effects.Attach) -> None:
        """Take a descriptor that a member has deposited."""
        try:
            if effect.way == CONNECTS:
                ours, theirs = _pair(effect.way)
                _hand_over(effect.descriptor, theirs)
            else:
                ours = os.dup(effect.descriptor) if effect.copy else effect.descriptor
        except OSError as error:
            self._tell(events.StreamFailed(effect.stream, str(error)))
            return
        # What the claimer receives is read here, and sent to it.
        reads, writes = effect.way != SENDS, effect.way != RECEIVES
        self._add(effect.stream, ours, b"", reads=reads, writes=writes)
        self._ends[effect.stream].shared = effect.way != CONNECTS

    def do(self, effect: effects.Effect) -> None:
        """Do what is to be done to an end."""
        match effect:
            case effects.AllowReading(stream, count) if stream in self._ends:
                self._ends[stream].room += count
            case effects.StopReading(stream) if stream in self._ends:
                self._stop_reading(self._ends[stream])
            case effects.Write(stream, data) if stream in self._ends:
                self._ends[stream].waiting.append(memoryview(data))
                self._write(stream, self._ends[stream])
            case effects.EndWriting(stream) if stream in self._ends:
                self._ends[stream].ends = True
                self._write(stream, self._ends[stream])
            case effects.CloseStream(stream) if stream in self._ends:
                self._ends[stream].closes = True
                self._write(stream, self._ends[stream])
            case _:
                return
        self._poll(effect.stream)

    def close(self) -> None:
        """Close every end."""
        for stream in list(self._ends):
            self._drop(stream)

    def _add(
        self, stream: bytes, descriptor: int, member: bytes, *, reads: bool, writes: bool
    ) -> None:
        sock = None
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            sock = socket.socket(fileno=descriptor)
        else:
            descriptor = _own(descriptor, RECEIVES if writes else SENDS)
        self._ends[stream] = _End(descriptor, sock, member, reads=reads, writes=writes)
        self._poll(stream)

    def _poll(self, stream: bytes) -> None:
        """Have the selector poll an end as it is now."""
        end = self._ends.get(stream)
        if end is None:
            return
        wanted = selectors.EVENT_WRITE if end.waiting else 0
        if (end.reads and end.room) or (not end.reads and end.writes and end.sock is None):
            # The writing end of a pipe can be "read" when nothing reads from the pipe any more.
            wanted |= selectors.EVENT_READ
        if wanted == end.polled:
            return
        if end.polled:
            self._selector.unregister(end.descriptor)
        if wanted:
            self._selector.register(
                end.descriptor, wanted, lambda ready: self._ready(stream, end, ready)
            )
        end.polled = wanted

    def _ready(self, stream: bytes, end: _End, ready: int) -> None:
        if self._ends.get(stream) is not end:
            return
        if ready & selectors.EVENT_WRITE:
            self._write(stream, end)
        if ready & selectors.EVENT_READ:
            if end.reads:
                self._read(stream, end)
            elif end.writes and _is_broken(end.descriptor):
                self._break(stream, end)
        self._poll(stream)

    def _read(self, stream: bytes, end: _End) -> None:
        if not end.room:
            return
        if end.member:
            self._read_output(end.member)
        try:
            data = _receive(end, min(end.room, _READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        end.room -= len(data)
        if not data:
            end.reads = False
        self._tell(events.StreamRead(stream, data))
        if not data and end.sock is not None and end.writes and _is_broken(end.descriptor):
            self._break(stream, end)

    def _write(self, stream: bytes, end: _End) -> None:
        written = 0
        while end.waiting and end.writes:
            data = end.waiting[0]
            try:
                count = _send(end, data)
            except BlockingIOError:
                break
            except OSError:
                self._break(stream, end)
                break
            written += count
            if count == len(data):
                end.waiting.popleft()
            else:
                end.waiting[0] = data[count:]
        if written:
            self._tell(events.StreamWrote(stream, written))
        if not end.waiting:
            self._conclude(stream, end)

    def _conclude(self, stream: bytes, end: _End) -> None:
        if self._ends.get(stream) is not end:
            return
        if end.closes or (end.ends and end.sock is None):
            self._drop(stream)
        elif end.ends and end.writes and end.sock is not None:
            end.writes = False
            _shut(end, socket.SHUT_WR)

    def _break(self, stream: bytes, end: _End) -> None:
        if end.writes:
            end.writes = False
            end.waiting.clear()
            self._tell(events.StreamBroken(stream))

    def _stop_reading(self, end: _End) -> None:
        end.reads, end.room = False, 0
        _shut(end, socket.SHUT_RD)

    def _drop(self, stream: bytes) -> None:
        end = self._ends.pop(stream)
        if end.polled:
            self._selector.unregister(end.descriptor)
        if end.sock is None:
            os.close(end.descriptor)
        else:
            end.sock.close()


def connect(listener: int, give: Callable[[int], None]) -> None:
    """Make a connection: one end for what listens, one for `give`, which sends it on.

    Raises:
        OSError: nothing listens, or the system gives no descriptor.
    """
    ours, theirs = _pair(BOTH)
    try:
        _hand_over(listener, theirs)
        give(ours)
    finally:
        os.close(ours)


def _hand_over(listener: int, descriptor: int) -> None:
    """Send what listens its end of a connection, and close it here."""
    try:
        with socket.socket(fileno=os.dup(listener)) as sock:
            socket.send_fds(sock, [_CONNECTION], [descriptor], socket.MSG_DONTWAIT)
    finally:
        os.close(descriptor)


def _pair(way: int) -> tuple[int, int]:
    """Return our end and the member's, which is for `way`."""
    if way in (BOTH, CONNECTS):
        one, two = socket.socketpair()
        return one.detach(), two.detach()
    receiver, sender = os.pipe()
    return (sender, receiver) if way == RECEIVES else (receiver, sender)


def _shut(end: _End, how: int) -> None:
    if end.sock is not None and not end.shared:
        with contextlib.suppress(OSError):
            end.sock.shutdown(how)


def _own(descriptor: int, way: int) -> int:
    """Return another descriptor of a pipe, which does not wait as that of others may; close this one."""
    flags = os.O_WRONLY if way == RECEIVES else os.O_RDONLY
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Nothing reads from it any more: writing shows that without waiting.
        return descriptor
    os.close(descriptor)
    return own


def _is_broken(descriptor: int) -> bool:
    """Return whether nothing reads at the other side."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def _receive(end: _End, count: int) -> bytes:
    if end.sock is None:
        return os.read(end.descriptor, count)
    return end.sock.recv(count, socket.MSG_DONTWAIT)


def _send(end: _End, data: memoryview) -> int:
    if end.sock is None:
        return os.write(end.descriptor, data)
    return end.sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
