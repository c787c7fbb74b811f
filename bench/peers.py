"""The systems that are compared, behind one small interface.

Each is used as its own documentation shows: two worker processes on this machine, one thread each.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bench.tasks import absolutes

WORKERS = int(os.environ.get("BENCH_WORKERS", "2"))


class Peer(Protocol):
    """Started on construction."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Start one tracked task; returns what waits for its result."""

    def share(self, value: Any) -> Any:
        """Make a large argument known in the way that the system recommends."""

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        """`abs` of every value, `chunk` a task."""

    def close(self) -> None:
        """Stop everything."""


class Manyhands:
    """This project: an executor with an embedded cluster."""

    def __init__(self) -> None:
        import manyhands

        self._pool = manyhands.Pool(WORKERS)
        self._executor = manyhands.Executor(address=self._pool.address)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._executor.submit(function, *args).result

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._pool.map(abs, values, chunk)

    def close(self) -> None:
        self._executor.shutdown()
        self._pool.terminate()
        self._pool.join()


class MultiprocessingPool:
    """`multiprocessing.Pool`, the one-machine baseline."""

    def __init__(self) -> None:
        self._pool = multiprocessing.Pool(WORKERS)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._pool.apply_async(function, args).get

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._pool.map(abs, values, chunk)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class Loky:
    """loky's reusable executor, the one-machine executor of joblib."""

    def __init__(self) -> None:
        from loky import get_reusable_executor

        self._executor = get_reusable_executor(max_workers=WORKERS)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        future = self._executor.submit(function, *args)
        return lambda: future.result()  # noqa: PLW0108 - the method is looked up when called

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return list(self._executor.map(abs, values, chunksize=chunk))

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class Dask:
    """dask.distributed: scheduler and worker processes on this machine."""

    def __init__(self) -> None:
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.worker.memory.terminate": False})
        self._cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self._client = Client(self._cluster)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._client.submit(function, *args, pure=False).result  # type: ignore[no-any-return]

    def share(self, value: Any) -> Any:
        return self._client.scatter(value, broadcast=True)

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        chunks = [list(values[at : at + chunk]) for at in range(0, len(values), chunk)]
        futures = self._client.map(absolutes, chunks, pure=False)
        return [value for part in self._client.gather(futures) for value in part]

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


PEERS: dict[str, Callable[[], Peer]] = {
    "manyhands": Manyhands,
    "multiprocessing.Pool": MultiprocessingPool,
    "loky": Loky,
    "dask.distributed": Dask,
}
