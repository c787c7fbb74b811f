"""One end of a stream between hosts, as its agent knows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from manyhands_shared.protocol.messages.coordination import (
    BOTH,
    CONNECTS,
    END,
    RECEIVES,
    SENDS,
    STOP,
    Flow,
    Grant,
    Open,
    Opened,
    Shut,
)

#: Bytes that are on their way at most.
WINDOW_BYTES = 1 << 20
#: Bytes after which the receiver says how much it has taken.
GRANT_BYTES = WINDOW_BYTES // 4


@dataclass(slots=True)
class Stream:
    """Positions in both ways. The agent at the other end has what is behind them.

    The way out ends with END, which counts as a byte and is acknowledged as one. `STOP` has the other
    side end its way out.
    """

    id: bytes
    program: bytes
    #: The agent of the other end.
    peer: bytes
    #: The claim, until it is answered, and the channel of its claimer.
    claim: Open | None = None
    channel: int = 0
    #: What was read here and not taken there, where it begins, and how far the other side lets us go.
    unacknowledged: deque[tuple[int, bytes]] = field(default_factory=deque)
    read: int = 0
    granted: int = WINDOW_BYTES
    ended: bool = False
    out_over: bool = False
    #: What has come, what the process here has of it, and what the other side knows of that.
    received: int = 0
    written: int = 0
    said: int = 0
    stopped: bool = False
    in_over: bool = False
    #: What came behind output that the root has not shown; and whether the end did.
    delayed: list[bytes] = field(default_factory=list)
    delayed_end: bool = False

    def limit(self, way: int) -> None:
        """Take note of what the end here does: `way` is how its owner uses it."""
        self.in_over = way not in (RECEIVES, BOTH, CONNECTS)
        self.out_over = way not in (SENDS, BOTH, CONNECTS)

    @property
    def over(self) -> bool:
        """Whether both ways are over."""
        return self.in_over and self.out_over

    def add(self, data: bytes) -> Flow:
        """Note bytes that were read here; return what says them."""
        flow = Flow(self.id, self.peer, self.read, [data])
        self.unacknowledged.append((self.read, data))
        self.read += len(data)
        return flow

    def end(self) -> Shut:
        """Note that nothing more is read here; return what says so."""
        self.ended = True
        return Shut(self.id, self.peer, END, self.read)

    def stop(self) -> Shut:
        """Note that nothing more is taken here; return what says so."""
        self.stopped = True
        return Shut(self.id, self.peer, STOP, 0)

    def taken(self, until: int) -> int:
        """The other side has taken this much; return by how many bytes it lets us go on."""
        while self.unacknowledged:
            at, data = self.unacknowledged[0]
            if at + len(data) > until:
                break
            self.unacknowledged.popleft()
        if self.ended and until > self.read:
            self.out_over = True
            self.unacknowledged.clear()
            return 0
        more = max(0, until + WINDOW_BYTES - self.granted)
        self.granted += more
        return more

    def take(self, message: Flow) -> bytes:
        """Return what is new of bytes that came."""
        data = b"".join(bytes(one) for body in message.bodies for one in _parts(body))
        skip = self.received - message.at
        if skip < 0 or skip >= len(data) or self.stopped or self.in_over:
            # Said twice, not wanted any more, or behind what a link has lost, which is said again.
            return b""
        new = data[skip:] if skip else data
        self.received += len(new)
        return new

    def grant(self) -> Grant | None:
        """Return what says how much was taken here, if that is worth saying."""
        if self.written - self.said < GRANT_BYTES or self.in_over:
            return None
        self.said = self.written
        return Grant(self.id, self.peer, self.written)

    def again(self, until: int) -> Iterator[Flow | Grant | Shut]:
        """What the other side may not have, if it has the bytes up to `until`."""
        if not self.in_over:
            self.said = self.written
            yield Grant(self.id, self.peer, self.written)
        if self.out_over:
            return
        for at, data in self.unacknowledged:
            if at + len(data) > until:
                yield Flow(self.id, self.peer, at, [data])
        if self.ended:
            yield Shut(self.id, self.peer, END, self.read)

    def announcements(self) -> Iterator[Open | Opened | Flow | Grant | Shut]:
        """What is said again over a new link."""
        if self.claim is not None:
            yield self.claim
            return
        yield Opened(self.id, self.peer, self.received, "")
        yield from self.again(0)
        if self.stopped and not self.in_over:
            yield Shut(self.id, self.peer, STOP, 0)


def _parts(body: object) -> tuple[bytes, ...]:
    return body if isinstance(body, tuple) else (body,)
