"""A relay for TCP and UDP that misbehaves on command, so that links can fail without any privilege.

It listens on another loopback address than the broker, with the same port number. So what nodes send
to the broker's heartbeat port passes through it as well.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

HOST = "127.0.0.2"
_CHUNK = 1 << 16
#: Bytes of one direction that are held before the relay stops reading.
_HELD = 1 << 20

UP, DOWN = "up", "down"


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection."""

    source: socket.socket
    target: socket.socket
    way: str
    waiting: deque[bytes] = field(default_factory=deque)
    twin: _Pipe | None = None

    @property
    def held(self) -> int:
        return sum(map(len, self.waiting))


class Relay:
    """Forwards to ``127.0.0.1:port``; `up` is towards the broker, `down` away from it.

    A way is open, *held* or *swallowed*. Held: nothing passes, and everything comes later, as when TCP
    sends lost packets again. Swallowed: bytes are taken and vanish, as when the far end has lost its
    power.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self.address = f"tcp://{HOST}:{port}"
        #: The share of datagrams that is lost, and how many were lost and passed.
        self.loss = 0.0
        self.dropped = self.passed = 0
        #: Connections that were made through it.
        self.accepted = 0
        self._port = port
        self._random = random.Random(seed)
        self._closed_ways: dict[str, str] = {}
        self._selector = selectors.DefaultSelector()
        self._pipes: set[_Pipe] = set()
        self._calls: deque[Callable[[], None]] = deque()
        self._waker, self._waked = socket.socketpair()
        self._listener = socket.create_server((HOST, port), backlog=256)
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind((HOST, port))
        for sock in (self._waked, self._listener, self._udp):
            sock.setblocking(False)
        self._selector.register(self._waked, selectors.EVENT_READ, self._wake)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._udp, selectors.EVENT_READ, self._datagram)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop)
        self._thread.join()

    def hold(self, *ways: str) -> None:
        """Let nothing pass, and keep it."""
        self._do(lambda: self._closed_ways.update(dict.fromkeys(ways, "held")))

    def swallow(self, *ways: str) -> None:
        """Take everything, and pass nothing on, ever. New connections are affected too."""
        self._do(lambda: self._closed_ways.update(dict.fromkeys(ways, "swallowed")))

    def open(self) -> None:
        """Pass everything on again, what was held first. What was swallowed stays so: reset those."""

        def call() -> None:
            self._closed_ways.clear()
            for pipe in list(self._pipes):
                self._watch(pipe)
                self._flush(pipe)

        self._do(call)

    def reset(self) -> None:
        """Break every connection off, with RST."""

        def call() -> None:
            for pipe in list(self._pipes):
                self._drop(pipe)

        self._do(call)

    # All below runs in the relay's thread.

    def _do(self, call: Callable[[], None]) -> None:
        done = threading.Event()
        self._calls.append(call)
        self._calls.append(done.set)
        self._waker.send(b"!")
        assert done.wait(120)

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                # Not if an earlier call of this turn has closed it; what is only put off comes again.
                if self._running and self._selector.get_map().get(key.fd) is key:
                    key.data()

    def _wake(self) -> None:
        self._waked.recv(64)
        while self._calls:
            self._calls.popleft()()

    def _stop(self) -> None:
        for pipe in list(self._pipes):
            self._drop(pipe)
        for sock in (self._listener, self._udp, self._waked, self._waker):
            sock.close()
        self._selector.close()
        self._running = False

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.socket()
        try:
            far.connect(("127.0.0.1", self._port))
        except OSError:
            near.close()
            far.close()
            return
        up, down = _Pipe(near, far, UP), _Pipe(far, near, DOWN)
        up.twin, down.twin = down, up
        self.accepted += 1
        for pipe in (up, down):
            pipe.source.setblocking(False)
            pipe.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pipes.add(pipe)
            self._watch(pipe)

    def _datagram(self) -> None:
        with suppress(OSError):
            while True:
                data = self._udp.recv(_CHUNK)
                if UP in self._closed_ways or self._random.random() < self.loss:
                    self.dropped += 1
                else:
                    self.passed += 1
                    self._udp.sendto(data, ("127.0.0.1", self._port))

    def _read(self, pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        state = self._closed_ways.get(pipe.way)
        if not data:
            # Not even the end of a connection passes a way that is closed.
            if state is None:
                self._drop(pipe)
            else:
                self._selector.unregister(pipe.source)
            return
        if state != "swallowed":
            pipe.waiting.append(data)
            self._flush(pipe)

    def _flush(self, pipe: _Pipe) -> None:
        while pipe.waiting and pipe.way not in self._closed_ways:
            try:
                sent = pipe.target.send(pipe.waiting[0])
            except BlockingIOError:
                break
            except OSError:
                self._drop(pipe)
                return
            rest = pipe.waiting.popleft()[sent:]
            if rest:
                pipe.waiting.appendleft(rest)
        self._watch(pipe)
        if pipe.twin is not None:
            self._watch(pipe.twin)

    def _watch(self, pipe: _Pipe) -> None:
        """Have the selector look for what this connection's source can do now."""
        if pipe not in self._pipes:
            return
        assert pipe.twin is not None
        wanted = 0
        if pipe.held < _HELD:
            wanted |= selectors.EVENT_READ
        if pipe.twin.waiting and pipe.twin.way not in self._closed_ways:
            wanted |= selectors.EVENT_WRITE  # what the other direction sends goes to this socket
        known = pipe.source in self._selector.get_map()
        if not wanted:
            if known:
                self._selector.unregister(pipe.source)
            return
        change = self._selector.modify if known else self._selector.register
        change(pipe.source, wanted, lambda: self._turn(pipe))

    def _turn(self, pipe: _Pipe) -> None:
        if pipe.twin is not None and pipe.twin.waiting:
            self._flush(pipe.twin)
        if pipe in self._pipes:
            self._read(pipe)

    def _drop(self, pipe: _Pipe) -> None:
        assert pipe.twin is not None
        for each in (pipe, pipe.twin):
            if each in self._pipes:
                self._pipes.discard(each)
                with suppress(KeyError, ValueError):
                    self._selector.unregister(each.source)
                # A linger of zero seconds makes close() send RST.
                with suppress(OSError):
                    linger = b"\x01\0\0\0\0\0\0\0"
                    each.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                each.source.close()
