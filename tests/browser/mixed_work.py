"""Functions of the jobs that the dashboard shows in tests: quick and slow ones, and some that fail."""

from __future__ import annotations

import math
import os
import random
import time
from pathlib import Path

EVIL = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script> \u202e"


def render_frame(number: int) -> int:
    """Take some hundredths of a second."""
    time.sleep(random.Random(number).choice([0.02, 0.04, 0.06, 0.1]))
    return number


def fit_model(number: int) -> float:
    """Keep a core busy."""
    until = time.perf_counter() + 0.05 + random.Random(number).random() * 0.4
    total = 0.0
    while time.perf_counter() < until:
        total += number**0.5
    return total


def read_sensor(number: int) -> int:
    """Fail now and then, in two ways."""
    time.sleep(0.03)
    if number % 9 == 4:
        raise ValueError(
            f"sensor {number} gave {number * 0.37:.2f} V, above its {number % 5 + 3} V"
        )
    if number % 50 == 7:
        raise KeyError("calibration")
    return number


def evil(_: int) -> None:
    """Print and raise what would be markup."""
    print(EVIL)
    raise RuntimeError(EVIL)


def wait_for(gate: str) -> None:
    """Run until a file is there."""
    while not Path(gate).exists():
        time.sleep(0.05)


def leave(code: int) -> None:
    """End the process that runs this."""
    os._exit(code)


def grind(number: int) -> float:
    """Keep a core busy for a moment."""
    return sum(math.sqrt(one) for one in range(number))


def spin(gate: str) -> None:
    """Keep a core busy until a file is there."""
    while not Path(gate).exists():
        grind(20_000)
