"""Parsl's high-throughput executor: an interchange and a worker pool over ZeroMQ."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from bench import tasks
from bench.peers import WORKERS


class Cluster:
    """One block with one manager on this machine."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-parsl-")
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            max_workers_per_node=WORKERS,
            cores_per_worker=1e-6,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        parsl.load(
            Config(executors=[executor], run_dir=self._directory.name, initialize_logging=False)
        )
        self._apps: dict[Callable[..., Any], Any] = {}

    def _app(self, function: Callable[..., Any]) -> Any:
        if function not in self._apps:
            self._apps[function] = parsl.python_app(function)
        return self._apps[function]

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._app(function)(*args).result  # type: ignore[no-any-return]

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        app = self._app(tasks.absolutes)
        futures = [app(values[at : at + chunk]) for at in range(0, len(values), chunk)]
        return [value for future in futures for value in future.result()]

    def close(self) -> None:
        parsl.dfk().cleanup()
        parsl.clear()
        self._directory.cleanup()
