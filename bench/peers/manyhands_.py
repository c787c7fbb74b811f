"""This project: an executor, and a pool over the same cluster where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import manyhands
from bench.peers import WORKERS


class Cluster:
    """An executor with a cluster of its own."""

    def __init__(self) -> None:
        self._executor = manyhands.Executor(WORKERS)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._executor.submit(function, *args).result

    def after(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._executor.submit(function, *args)

    def value(self, future: Any) -> Any:
        return future.result()

    def share(self, value: Any) -> Any:
        return self._executor.scatter(value)

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._pool.map(abs, values, chunk)

    def executor_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return list(self._executor.map(abs, values, chunksize=chunk))

    @cached_property
    def _pool(self) -> manyhands.Pool:
        return manyhands.Pool(WORKERS, address=self._executor.address)

    def close(self) -> None:
        if "_pool" in self.__dict__:
            self._pool.terminate()
            self._pool.join()
        self._executor.shutdown()
