"""Peers of `bench.sharing` with the names of `multiprocessing`: Redis, and a bare round trip."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tools.two_hosts import free_port

_START_SECONDS = 10.0
_HEAD = 4


def has_redis() -> bool:
    """Return whether Redis's server is installed."""
    return shutil.which("redis-server") is not None


@contextmanager
def redis() -> Iterator[Redis]:
    """Start a server without a file; yield what makes objects in it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            made = Redis(port)
            made.wait()
            yield made
        finally:
            server.terminate()
            server.wait()


class _Connected:
    """An object of the server's, with a connection of each process that uses it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.key = uuid.uuid4().hex
        self._file: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_file": None}

    def command(self, *words: str | bytes) -> Any:
        """Send a command; return the answer."""
        if self._file is None:
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = sock.makefile("rwb")
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        head = b"*%d\r\n" % len(parts)
        self._file.write(head + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in parts))
        self._file.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        return rest


class _Tokens(_Connected):
    """A list with as many elements as a semaphore has tokens."""

    def __init__(self, port: int, value: int) -> None:
        super().__init__(port)
        for _ in range(value):
            self.release()
        # The connection is the parent's; a process that is forked opens its own.
        self._file = None

    def acquire(self) -> bool:
        """Take a token, and wait for one."""
        self.command("BLPOP", self.key, "0")
        return True

    def release(self) -> None:
        """Put one back."""
        self.command("RPUSH", self.key, "1")

    def wait(self) -> None:
        """Wait until there is a token, as for an event that is set once."""
        self.acquire()

    set = release


class _Queue(_Connected):
    def put(self, item: Any) -> None:
        """Append an item."""
        self.command("RPUSH", self.key, pickle.dumps(item))

    def get(self) -> Any:
        """Take the first."""
        return pickle.loads(self.command("BLPOP", self.key, "0")[1])


class Redis:
    """Makes objects in a server: BLPOP for what waits."""

    def __init__(self, port: int) -> None:
        self.port = port

    def wait(self) -> None:
        """Wait until the server answers."""
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                _Connected(self.port).command("PING")
            except OSError:
                assert time.monotonic() < until, "the server does not start"
                time.sleep(0.02)
            else:
                return

    def Lock(self) -> _Tokens:  # noqa: N802 - its name in `multiprocessing`
        """Return a lock: a semaphore with one token."""
        return _Tokens(self.port, 1)

    def Semaphore(self, value: int) -> _Tokens:  # noqa: N802
        """Return a semaphore."""
        return _Tokens(self.port, value)

    def Event(self) -> _Tokens:  # noqa: N802
        """Return an event that one process waits for once."""
        return _Tokens(self.port, 0)

    def Queue(self) -> _Queue:  # noqa: N802
        """Return a queue."""
        return _Queue(self.port)


# The bare round trip: a Unix socket to a relay, ZeroMQ to a server, and back.


class _Echo:
    """A lock in name: each acquisition is a round trip, and a release is a message without an answer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._sock: socket.socket | None = None

    def acquire(self) -> bool:
        """Send 100 bytes and wait for them to come back."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.connect(self.path)
        self._sock.sendall(bytes(100))
        left = 100
        while left:
            left -= len(self._sock.recv(left))
        return True

    def release(self) -> None:
        """Do nothing."""


class _Bare:
    """Makes what `lock_pair` wants."""

    def __init__(self, path: str) -> None:
        self.path = path

    def Lock(self) -> _Echo:  # noqa: N802
        """Return what goes there and back."""
        return _Echo(self.path)

    def Queue(self) -> Any:  # noqa: N802
        """Return the standard library's queue, for the result."""
        return multiprocessing.Queue()


@contextmanager
def bare() -> Iterator[_Bare]:
    """Start a server and a relay."""
    with tempfile.TemporaryDirectory() as folder:
        port, path = free_port(), f"{folder}/relay"
        ready = multiprocessing.Event()
        parts = [
            multiprocessing.Process(target=_serve, args=(port,), daemon=True),
            multiprocessing.Process(target=_relay, args=(port, path, ready), daemon=True),
        ]
        for part in parts:
            part.start()
        ready.wait()
        try:
            yield _Bare(path)
        finally:
            for part in parts:
                part.kill()
                part.join()


def _serve(port: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"tcp://127.0.0.1:{port}")
        while True:
            router.send_multipart(router.recv_multipart())


def _relay(port: int, path: str, ready: Any) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.connect(f"tcp://127.0.0.1:{port}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            ready.set()
            peer, _ = listener.accept()
            with peer:
                while data := peer.recv(1 << 16):
                    dealer.send(data)
                    peer.sendall(dealer.recv())
