"""ipyparallel: controller and engines on this machine, a load-balanced view."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import ipyparallel

from bench.peers import WORKERS


class Cluster:
    """A cluster of engines."""

    def __init__(self) -> None:
        self._cluster = ipyparallel.Cluster(n=WORKERS, log_level=logging.ERROR)
        self._client = self._cluster.start_and_connect_sync(activate=False)
        self._view = self._client.load_balanced_view()

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._view.apply_async(function, *args).get  # type: ignore[no-any-return]

    def share(self, value: Any) -> Any:
        # Its way with data that many tasks use: push it to every engine, refer to it by name.
        self._client[:].push({"shared": value}, block=True)
        return ipyparallel.Reference("shared")

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return self._view.map_sync(abs, values, chunksize=chunk)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()
