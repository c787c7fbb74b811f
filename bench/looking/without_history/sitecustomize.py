"""Has a process of `bench.looking.watched` keep no history: Python imports it at the start."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _nothing(*_: object) -> None:
    pass


def _mark(_: object, job: Any) -> None:
    job.touched = True


def _broker(module: Any) -> None:
    for name in ("queued", "sample", "ran", "failed", "retire", "due"):
        setattr(module.Histories, name, _nothing)
    module.Histories.touch = _mark


def _node(module: Any) -> None:
    for name in ("arrived", "finished", "died"):
        setattr(module.RunLog, name, _nothing)


_PATCHES: dict[str, Callable[[Any], None]] = {
    "manyhands_broker.core.history.histories": _broker,
    "manyhands_worker.core.results.run_log": _node,
}


class _Finder:
    """Changes a module as soon as it was loaded."""

    def find_spec(
        self, name: str, _path: object = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        patch = _PATCHES.pop(name, None)
        spec = None if patch is None else importlib.util.find_spec(name)
        if patch is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec


if os.environ.get("BENCH_HISTORY") == "off":
    sys.meta_path.insert(0, _Finder())
