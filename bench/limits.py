"""What this machine can do at best, with the same tools and none of our code.

python -m bench.limits
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import msgpack
import numpy as np
import zmq

from bench.reporting.report import number

_ROUNDS = 2_000
_MESSAGES = 40_000
_FRAME = 16_000_000
_COPY = 128_000_000


def main() -> int:
    """Measure and print all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure()
    print(
        json.dumps(found)
        if options.json
        else "\n".join(f"{k}: {number(v)}" for k, v in found.items())
    )
    return 0


def measure() -> dict[str, float]:
    """Limit → value."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        ipc = f"ipc://{Path(directory) / 'socket'}"
        return {
            "pipe round trip p50, ms": pipe_roundtrip(),
            "ZeroMQ echo over tcp p50, ms": echo("tcp://127.0.0.1:*"),
            "ZeroMQ echo over ipc p50, ms": echo(ipc),
            "broker that forwards, 1 task a message, messages/s": forward(1),
            "broker that forwards, 100 tasks a message, tasks/s": forward(100),
            "16 MB frames over tcp, MB/s": frames("tcp://127.0.0.1:*"),
            "16 MB frames over ipc, MB/s": frames(ipc + "2"),
            "copy of 128 MB into warm memory, MB/s": copies(fresh=False),
            "copy of 128 MB into fresh memory, MB/s": copies(fresh=True),
        }


def pipe_roundtrip() -> float:
    """A byte there and back over a pipe to another process."""
    near, far = multiprocessing.Pipe()
    with _Child(_answer_pipe, far):

        def there_and_back() -> None:
            near.send_bytes(b"x")
            near.recv_bytes()

        p50 = _median(there_and_back)
        near.close()
    return p50


def _answer_pipe(pipe: Connection) -> None:
    try:
        while True:
            pipe.send_bytes(pipe.recv_bytes())
    except EOFError:
        return


def echo(address: str) -> float:
    """A small message there and back: DEALER to a ROUTER in another process."""
    with _Serving(_echo, address) as socket:

        def there_and_back() -> None:
            socket.send(b"x" * 100)
            socket.recv()

        return _median(there_and_back)


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    endpoint = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


def _echo(socket: zmq.Socket[bytes], first: list[bytes]) -> None:
    frames = first
    while frames[1]:
        socket.send_multipart(frames)
        frames = socket.recv_multipart()


def forward(tasks: int) -> float:
    """Tasks a second from one peer to another through a ROUTER that reads and packs each header."""
    body = msgpack.packb([20, ["job", 1, list(range(tasks)), [b"x" * 20] * tasks]])
    count = max(2_000, _MESSAGES // tasks)
    with _Serving(_forward, "tcp://127.0.0.1:*") as socket:

        def send() -> None:
            for _ in range(count):
                socket_out.send(body)

        socket_out = socket.context.socket(zmq.DEALER)
        socket_out.connect(_endpoint(socket))
        socket.send(body)
        socket.recv()
        thread = threading.Thread(target=send)
        began = time.perf_counter()
        thread.start()
        for _ in range(count):
            socket.recv()
        seconds = time.perf_counter() - began
        thread.join()
        socket_out.close(0)
    return count * tasks / seconds


def _forward(socket: zmq.Socket[bytes], first: list[bytes]) -> None:
    receiver, body = first
    while body:
        socket.send_multipart((receiver, msgpack.packb(msgpack.unpackb(body))))
        _, body = socket.recv_multipart()


def frames(address: str) -> float:
    """Large frames from another process, taken without a copy."""
    with _Serving(_send_frames, address) as socket:
        socket.send(b"20")
        socket.recv(copy=False)
        began = time.perf_counter()
        for _ in range(20):
            socket.recv(copy=False)
        return 20 * _FRAME / 1e6 / (time.perf_counter() - began)


def _send_frames(socket: zmq.Socket[bytes], first: list[bytes]) -> None:
    frame = zmq.Frame(np.ones(_FRAME, np.uint8).tobytes())
    for _ in range(1 + int(first[1])):
        socket.send(first[0], zmq.SNDMORE)
        socket.send(frame, copy=False)
    socket.recv_multipart()


def copies(*, fresh: bool) -> float:
    """Copying an array: into memory that is there, or that the system has to find first."""
    source = np.ones(_COPY, np.uint8)
    target = np.ones(_COPY, np.uint8)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        if fresh:
            target = source.copy()
        else:
            target[:] = source
        rates.append(_COPY / 1e6 / (time.perf_counter() - began))
        assert target[-1] == 1
    return statistics.median(rates)


def _median(call: Callable[[], None]) -> float:
    """Median of many calls, in milliseconds."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


class _Child:
    """A process that runs a function for as long as the block."""

    def __init__(self, target: Callable[..., None], *args: object) -> None:
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=args)

    def __enter__(self) -> None:
        self._process.start()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


class _Serving:
    """A ROUTER in another process that hands its first message to `serve`, and a DEALER to it."""

    def __init__(
        self, serve: Callable[[zmq.Socket[bytes], list[bytes]], None], address: str
    ) -> None:
        self._near, far = multiprocessing.Pipe()
        self._child = _Child(_bind, far, address, serve)

    def __enter__(self) -> zmq.Socket[bytes]:
        self._child.__enter__()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(self._near.recv())
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._child.__exit__()
        self._context.term()


def _bind(pipe: Connection, address: str, serve: Callable[..., None]) -> None:
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.set_hwm(0)
    socket.bind(address)
    pipe.send(_endpoint(socket))
    serve(socket, socket.recv_multipart())


if __name__ == "__main__":
    sys.exit(main())
