"""What kinds of tasks a load test runs, in what proportion, and what their right answers are."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from manyhands import _durations as durations
from manyhands.loadtest import tasks

KINDS = ("noop", "sleep", "cpu", "array-in", "array-out")
MIXED = "noop=70,sleep:10ms=10,cpu:2ms=10,array-in:100kB=5,array-out:100kB=5"
_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CALIBRATION_ROUNDS = 200_000


@dataclass(frozen=True)
class Part:
    """One kind of task of a mix.

    Attributes:
        kind: one of `KINDS`.
        amount: seconds of ``sleep`` and ``cpu``, bytes of the arrays, 0 of ``noop``.
        weight: how often it comes, relative to the other parts.
        text: as it was written, without the weight.
    """

    kind: str
    amount: float
    weight: float
    text: str

    def work(self, rounds_per_second: float) -> Work:
        """Return how to call and check it, on a machine with that rate of `tasks.cpu`."""
        return Work(self, rounds_per_second)


class Work:
    """A part made ready: the function, its arguments and its right answers."""

    def __init__(self, part: Part, rounds_per_second: float) -> None:
        self._part = part
        self._rounds = max(1, int(part.amount * rounds_per_second))
        self.function = _FUNCTIONS[part.kind]

    def arguments(self, token: int) -> tuple[Any, ...]:
        """Of the task with this token."""
        return (token, *self._constant)

    def _is_filled(self, token: int, answer: Any) -> bool:
        shape = getattr(answer, "shape", None)
        return shape == (self._constant[0],) and bool((answer == token).all())

    @cached_property
    def is_right(self) -> Callable[[int, Any], bool]:
        """Whether the task with that token has that answer."""
        return {
            "cpu": lambda token, answer: bool(answer == self._jumped(token)),
            "array-in": lambda token, answer: bool(answer == token + self._checksum),
            "array-out": self._is_filled,
        }.get(self._part.kind, _is_token)

    @cached_property
    def _constant(self) -> tuple[Any, ...]:
        """The arguments that all tasks share."""
        part = self._part
        if part.kind == "noop":
            return ()
        if part.kind == "sleep":
            return (part.amount,)
        if part.kind == "cpu":
            return (self._rounds,)
        if part.kind == "array-out":
            return (max(1, int(part.amount) // 8),)
        import numpy as np  # noqa: PLC0415 - only this part needs it

        return (np.random.default_rng(1).integers(0, 256, int(part.amount), np.uint8),)

    @cached_property
    def _checksum(self) -> int:
        return int(self._constant[0].sum(dtype="uint64"))

    def _jumped(self, token: int) -> int:
        """The end of `tasks.cpu`, by a power instead of a loop."""
        power = pow(tasks.MULTIPLIER, self._rounds, tasks.MODULUS)
        return (token + 1) * power % tasks.MODULUS


def _is_token(token: int, answer: Any) -> bool:
    return type(answer) is int and answer == token


def parse(text: str) -> tuple[Part, ...]:
    """A mix as people write it: ``noop``, ``sleep:0.25``, ``mixed``, ``noop=9,array-in:1MB=1``.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    parts = tuple(_part(word.strip()) for word in (MIXED if text == "mixed" else text).split(","))
    if len({part.text for part in parts}) < len(parts):
        raise ValueError(f"{text!r} names the same tasks twice; give them one weight")
    return parts


def choices(parts: tuple[Part, ...], seed: int) -> Iterator[int]:
    """Indices of `parts` by weight, without end; the same for the same seed."""
    if len(parts) == 1:
        while True:
            yield 0
    chance = random.Random(seed)
    indices, weights = range(len(parts)), [part.weight for part in parts]
    while True:
        yield from chance.choices(indices, weights, k=1_024)


def calibrate() -> float:
    """Rounds of `tasks.cpu` that this machine does in a second: the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        tasks.cpu(1, _CALIBRATION_ROUNDS)
        best = min(best, time.perf_counter() - began)
    return _CALIBRATION_ROUNDS / best


def _part(word: str) -> Part:
    text, _, weight_text = word.partition("=")
    kind, _, amount_text = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of task; there are: {', '.join(KINDS)}, mixed")
    if (kind == "noop") == bool(amount_text):
        wanted = "no amount" if kind == "noop" else f"an amount, as in {_EXAMPLES[kind]}"
        raise ValueError(f"{kind} takes {wanted}")
    try:
        weight = float(weight_text or 1)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise ValueError(f"{weight_text!r} is no weight; write a number above 0, as in noop=9")
    amount = 0.0
    if amount_text:
        amount = _size(amount_text) if kind.startswith("array") else _seconds(amount_text)
    return Part(kind, amount, weight, text)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "noop": tasks.noop,
    "sleep": tasks.sleep,
    "cpu": tasks.cpu,
    "array-in": tasks.array_in,
    "array-out": tasks.array_out,
}
_EXAMPLES = {
    "sleep": "sleep:0.25",
    "cpu": "cpu:5ms",
    "array-in": "array-in:1MB",
    "array-out": "array-out:1MB",
}


def _seconds(text: str) -> float:
    if text.endswith("ms"):
        return durations.parse(text[:-2]) / 1e3
    return durations.parse(text)


def _size(text: str) -> float:
    unit = next((unit for unit in _SIZES if text.endswith(unit)), "")
    try:
        size = float(text.removesuffix(unit)) * _SIZES.get(unit, 1)
    except ValueError:
        size = 0.0
    if not 8 <= size < 1 << 40:
        raise ValueError(f"{text!r} is no size; write 8 bytes or more, as 1000, 100kB, 1MB, 4MiB")
    return size
