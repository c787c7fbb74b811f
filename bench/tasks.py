"""What the benchmarks run. A module of its own, for every peer has to import it on its workers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


def noop(value: int) -> int:
    """Give back the argument: nothing but overhead."""
    return value


def array(nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An array of so many bytes."""
    return np.ones(nbytes, np.uint8)


def length(value: np.ndarray[Any, Any], _number: int) -> int:
    """Look at an argument."""
    return int(value.nbytes)


def pause(seconds: float) -> float:
    """Take a known time without using a core."""
    time.sleep(seconds)
    return seconds


def absolutes(values: list[int]) -> list[int]:
    """A chunk of small calls, for peers that have no chunked map of their own."""
    return [abs(value) for value in values]
