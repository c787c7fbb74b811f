"""`multiprocessing.Pool`, the baseline of one machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.peers import WORKERS


class Cluster:
    """A pool, forked as is the default."""

    def __init__(self) -> None:
        self._pool = multiprocessing.Pool(WORKERS)
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._pool.apply_async(function, args).get

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._pool.map(abs, values, chunk)

    def executor_map(self, values: Sequence[int], chunk: int) -> list[int]:
        if self._executor is None:
            context = multiprocessing.get_context("fork")
            self._executor = ProcessPoolExecutor(WORKERS, mp_context=context)
        return list(self._executor.map(abs, values, chunksize=chunk))

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
        self._pool.close()
        self._pool.join()
