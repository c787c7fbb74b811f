"""A fence for all threads of other processes at once: what they stored before it is seen after it.

A process that takes and releases a lock by itself stores one word and looks at another. The host agent
stores that other word, and looks at the first. Without a fence between, each might miss what the other
stored. The agent's fence stands for both, so that the process pays nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from typing import Any

_NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 2, 4


@cache
def can_fence() -> bool:
    """Make this process one that others fence; return whether the system can do that."""
    return _membarrier(_REGISTER_GLOBAL_EXPEDITED) == 0


def fence() -> None:
    """Have every thread of processes that have called `can_fence` pass a fence.

    Raises:
        OSError: the system cannot do that.
    """
    if _membarrier(_GLOBAL_EXPEDITED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _membarrier(command: int) -> int:
    number = _NUMBERS.get(platform.machine())
    return -1 if number is None else int(_libc().syscall(number, command, 0, 0))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
