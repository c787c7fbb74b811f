"""A slow, thin or lossy cable, as a process: for kernels without netem, and the same on all of them.

    python -m manyhands.testbed._link PARENT DELAY RATE LOSS SEED NEAR FAR

Frames are carried between two TAP devices, whose names are given, of the namespace that it is
started in. It prints a line once it carries, and ends with its parent.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass

from manyhands_shared.processes.lifecycle import die_with_parent

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_FRAME_BYTES = 65_536
#: Bytes that wait in one direction before more are dropped, as a router's buffer does.
_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Say what a cable does to frames, each way.

    Args:
        delay: seconds that a frame takes.
        rate: bytes a second; 0 is no limit.
        loss: share of the frames that is lost, from 0 to 1.
        seed: of the choice which frames are lost.
    """

    delay: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.delay < 0 or self.rate < 0 or not 0 <= self.loss <= 1:
            raise ValueError("delay and rate must not be negative, and loss be from 0 to 1")


class Way:
    """One direction: which frames pass, and when. Times are given to it."""

    def __init__(self, shape: Shape, salt: int) -> None:
        self._shape = shape
        self._random = random.Random(shape.seed * 2 + salt)
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._line_free = 0.0

    @property
    def due(self) -> float | None:
        """When the next frame leaves; `None` if there is none."""
        return self._waiting[0][0] if self._waiting else None

    def enter(self, frame: bytes, now: float) -> None:
        """A frame came, and is lost or waits."""
        full = self._bytes + len(frame) > _BUFFER_BYTES
        if full or (self._shape.loss and self._random.random() < self._shape.loss):
            return
        # The line sends one frame after the other; the delay of each runs beside that of the next.
        self._line_free = max(self._line_free, now)
        if self._shape.rate:
            self._line_free += len(frame) / self._shape.rate
        self._waiting.append((self._line_free + self._shape.delay, frame))
        self._bytes += len(frame)

    def leave(self, now: float) -> list[bytes]:
        """The frames that have arrived by now, in order."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now:
            arrived.append(self._waiting.popleft()[1])
        self._bytes -= sum(map(len, arrived))
        return arrived


def carry(near: int, far: int, shape: Shape) -> None:
    """Carry frames between two TAP devices for ever."""
    ways = {near: (Way(shape, 0), far), far: (Way(shape, 1), near)}
    poll = select.poll()
    for descriptor in ways:
        os.set_blocking(descriptor, False)
        poll.register(descriptor, select.POLLIN)
    while True:
        due = [way.due for way, _ in ways.values() if way.due is not None]
        wait = None if not due else max(0.0, min(due) - time.monotonic()) * 1e3
        ready = poll.poll(wait)
        now = time.monotonic()
        for descriptor, _ in ready:
            for frame in _frames(descriptor):
                ways[descriptor][0].enter(frame, now)
        for way, target in ways.values():
            for frame in way.leave(now):
                _send(target, frame)


def _frames(descriptor: int) -> list[bytes]:
    frames: list[bytes] = []
    try:
        while len(frames) < 256:
            frames.append(os.read(descriptor, _FRAME_BYTES))
    except BlockingIOError:
        pass
    return frames


def _send(descriptor: int, frame: bytes) -> None:
    try:
        os.write(descriptor, frame)
    except OSError:
        return  # full, or not up yet: a cable drops what it cannot carry


def _open(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return descriptor


def main(arguments: list[str]) -> None:
    """Open both devices, say so, and carry."""
    parent, *numbers, near, far = arguments
    die_with_parent(int(parent))
    delay, rate, loss, seed = numbers
    shape = Shape(float(delay), float(rate), float(loss), int(seed))
    ends = _open(near), _open(far)
    print("ready", flush=True)
    carry(*ends, shape)


if __name__ == "__main__":
    main(sys.argv[1:])
