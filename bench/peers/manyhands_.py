"""This project: an executor and a pool over the same cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import manyhands
from bench.peers import WORKERS


class Cluster:
    """A pool with a cluster of its own, and an executor that shares it."""

    def __init__(self) -> None:
        self._pool = manyhands.Pool(WORKERS)
        self._executor = manyhands.Executor(address=self._pool.address)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._executor.submit(function, *args).result

    def share(self, value: Any) -> Any:
        return self._executor.scatter(value)

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._pool.map(abs, values, chunk)

    def close(self) -> None:
        self._executor.shutdown()
        self._pool.terminate()
        self._pool.join()
