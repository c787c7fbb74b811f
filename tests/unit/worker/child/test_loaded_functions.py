"""Which callables a task may change, so that each attempt has them anew."""

from __future__ import annotations

import functools
import math
import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from manyhands_shared.payloads.wrappers import MapChunk, Setup, StarmapChunk
from manyhands_worker.child.loaded_functions import has_state


class Model:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1

    def call(self) -> None:
        self.calls += 1

    @classmethod
    def make(cls) -> Model:
        return cls()

    @staticmethod
    def nothing() -> None:
        """Do nothing."""


class Odd:
    """Raises for attributes that it does not have."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> None:
        """Do nothing."""


@functools.lru_cache
def cached() -> int:
    return 1


LOCK = multiprocessing.get_context("spawn").Lock()


@pytest.mark.parametrize(
    "function",
    [
        *(abs, math.sqrt, print, len, Model, Model.make, Model.nothing, Model.call, cached),
        *(lambda: 1, str.upper, "a".join, (5).__add__, dict.fromkeys, functools.reduce),
        *(functools.partial(pow, 2), functools.partial(cached), functools.partial(print, end="")),
        *(
            functools.partial(print, LOCK),
            MapChunk(abs),
            StarmapChunk(pow),
            Setup(abs, abs, (), b""),
        ),
    ],
    ids=lambda function: type(function).__name__,
)
def test_without_state(function: Callable[..., Any]) -> None:
    assert not has_state(function)


@pytest.mark.parametrize(
    "function",
    [
        *(Model(), Model().call, Odd(), [].append, {}.pop, set().add),
        *(functools.partial(print, []), functools.partial(print, file=object())),
        *(functools.partial(Model().call), functools.partial(functools.partial(print, []), 1)),
        *(MapChunk(Model().call), StarmapChunk(Model()), Setup(Model(), abs, (), b"")),
    ],
    ids=lambda function: type(function).__name__,
)
def test_with_state(function: Callable[..., Any]) -> None:
    assert has_state(function)
