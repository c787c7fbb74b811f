"""Ray: remote functions on a node of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from bench import tasks
from bench.peers import WORKERS


class Cluster:
    """A head node without a dashboard."""

    def __init__(self) -> None:
        paths = os.pathsep.join((str(Path.cwd()), os.environ.get("PYTHONPATH", "")))
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
        self._remotes: dict[Callable[..., Any], Any] = {}

    def _remote(self, function: Callable[..., Any]) -> Any:
        if function not in self._remotes:
            self._remotes[function] = ray.remote(function)
        return self._remotes[function]

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return partial(ray.get, self._remote(function).remote(*args))

    def after(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._remote(function).remote(*args)

    def value(self, future: Any) -> Any:
        return ray.get(future)

    def share(self, value: Any) -> Any:
        return ray.put(value)

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        remote = self._remote(tasks.absolutes)
        chunks = [remote.remote(values[at : at + chunk]) for at in range(0, len(values), chunk)]
        return [value for part in ray.get(chunks) for value in part]

    def close(self) -> None:
        ray.shutdown()
