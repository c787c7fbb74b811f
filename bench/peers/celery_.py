"""Celery with Redis as broker and result store, both on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from bench import tasks
from bench.peers import WORKERS, celery_app

_START_SECONDS = 20.0


class Cluster:
    """A Redis server, and one worker with prefork children."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Debian's redis-check-rdb is the server under another name.
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb") or "redis-server"
        self._redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            executable=program,
            stdout=subprocess.DEVNULL,
        )
        url = f"redis://127.0.0.1:{port}/0"
        self._await_redis(url)
        celery_app.configure(url)
        command = [sys.executable, "-m", "celery", "-A", "bench.peers.celery_app", "worker"]
        command += ["--concurrency", str(WORKERS), "--loglevel", "ERROR", "--without-gossip"]
        command += ["--without-mingle", "--prefetch-multiplier", "4"]
        # As root it refuses pickles otherwise; a user who runs benchmarks as root knows.
        environment = {**os.environ, "C_FORCE_ROOT": "1"}
        self._worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)

    @staticmethod
    def _await_redis(url: str) -> None:
        client, deadline = redis.Redis.from_url(url), time.monotonic() + _START_SECONDS
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        client.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        waiting = celery_app.TASKS[function.__name__].delay(*args)
        return lambda: waiting.get(interval=0.001)

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        task = celery_app.TASKS[tasks.absolutes.__name__]
        waits = [task.delay(values[at : at + chunk]) for at in range(0, len(values), chunk)]
        return [value for wait in waits for value in wait.get()]

    def close(self) -> None:
        self._worker.terminate()
        self._worker.wait()
        self._redis.terminate()
        self._redis.wait()
