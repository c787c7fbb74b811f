"""OpenGRIS Scaler: a scheduler and workers over ZeroMQ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scaler import Client, SchedulerClusterCombo

from bench import tasks
from bench.peers import WORKERS


class Cluster:
    """Scheduler, workers and a client."""

    def __init__(self) -> None:
        self._combo = SchedulerClusterCombo(n_workers=WORKERS, logging_level="CRITICAL")
        self._client = Client(address=self._combo.get_address())

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._client.submit(function, *args).result  # type: ignore[no-any-return]

    def share(self, value: Any) -> Any:
        return self._client.send_object(value)

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        futures = [
            self._client.submit(tasks.absolutes, values[at : at + chunk])
            for at in range(0, len(values), chunk)
        ]
        return [value for future in futures for value in future.result()]

    def close(self) -> None:
        self._client.disconnect()
        self._combo.shutdown()
