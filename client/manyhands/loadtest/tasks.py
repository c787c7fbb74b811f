"""What a load test runs on the nodes.

Every task is given a `token` of its own, which its answer depends on: so an answer that belongs to
another task is seen. Imported by the nodes; keep it light.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MULTIPLIER = 6_364_136_223_846_793_005
MODULUS = (1 << 61) - 1


def noop(token: int) -> int:
    """Give the token back: nothing but overhead."""
    return token


def sleep(token: int, seconds: float) -> int:
    """Take a known time without using a core."""
    time.sleep(seconds)
    return token


def cpu(token: int, rounds: int) -> int:
    """Use a core; the client can tell the answer without doing the same work."""
    value = token + 1
    for _ in range(rounds):
        value = value * MULTIPLIER % MODULUS
    return value


def array_in(token: int, values: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """Read all of an argument."""
    return token + int(values.sum(dtype="uint64"))


def array_out(token: int, length: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return an array of `length` 8-byte words."""
    import numpy as np  # noqa: PLC0415 - nodes that run no such task need it not

    return np.full(length, token, np.uint64)
