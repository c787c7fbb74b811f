"""What the benchmarks run. A module of its own, for every system has to import it on its workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def noop(value: int) -> int:
    """Give back the argument: nothing but overhead."""
    return value


def array(nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return an array of `nbytes` bytes."""
    import numpy as np  # not above: the time to the first result is not numpy's

    return np.ones(nbytes, np.uint8)


def length(value: np.ndarray[Any, Any], _number: int) -> int:
    """Look at an argument."""
    return int(value.nbytes)


def doubled(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return another array of the same size."""
    return value * 2


def both(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> int:
    """Look at two arguments."""
    return int(left[-1]) + int(right[-1])


def pause(seconds: float) -> float:
    """Take a known time without using a core."""
    time.sleep(seconds)
    return seconds


def absolutes(values: Sequence[int]) -> list[int]:
    """A chunk of small calls, for systems that have no chunked map of their own."""
    return [abs(value) for value in values]
