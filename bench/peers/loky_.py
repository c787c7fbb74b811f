"""loky's reusable executor, which joblib runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loky import get_reusable_executor

from bench.peers import WORKERS


class Cluster:
    """The executor."""

    def __init__(self) -> None:
        self._executor = get_reusable_executor(max_workers=WORKERS)

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return self._executor.submit(function, *args).result  # type: ignore[no-any-return]

    def share(self, value: Any) -> Any:
        return value

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        return list(self._executor.map(abs, values, chunksize=chunk))

    executor_map = chunked_map  # it has no other

    def close(self) -> None:
        self._executor.shutdown(wait=True)
