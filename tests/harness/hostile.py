"""Every field of every message at, below and above its bounds, and with what should never be in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.strategies import GROUPS, KINDS
from manyhands_shared.protocol import bounds, messages, wire

#: What may stand in a field by mistake or on purpose. None of it fits where it is not listed as fitting.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    -(1 << 63),
    (1 << 64) - 1,
    1.5,
    -0.0,
    5e-324,
    1.7e308,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "\0\x1b[2J\x9d52;c;AAAA\x07\u202e\n",
    "x" * 70_000,
    b"",
    b"\xff" * 70_000,
    [],
    [[]] * 9,
    [0, 0],
    [-1],
    [math.nan],
    {},
    {"a": {"b": {"c": {"d": {}}}}},
    {"k" * 257: 1},
    {"a": math.nan},
    {"a": "x" * 300_000},
)


class Case(NamedTuple):
    """A message with one field that is out of the ordinary."""

    message: Any
    #: ``SubmitGroup.first``
    field: str
    #: Whether the field keeps its bound.
    fits: bool


def edges(  # noqa: PLR0911 - a case for each kind
    bound: bounds.Bound,
) -> tuple[list[Any], list[Any]]:
    """Values at the bounds, and beyond them."""
    within: list[Any]
    beyond: list[Any]
    match bound:
        case bounds.Int(_, low, high):
            return [low, high], [low - 1, high + 1, float(low)]
        case bounds.Float(_, low, high):
            least = low or bounds.LEAST
            beyond = [math.nextafter(high, math.inf), math.nan, math.inf, -1.0, least / 2]
            return [low, least, high, 0.0 if low == 0 else low], beyond
        case bounds.Text(most, least, word):
            within = ["x" * least, "x" * most]
            return within, ["x" * (most + 1), *(["", "a b", "é", "\x07"] if word else [])]
        case bounds.Bytes(_, size, None):
            return [bytes(size)], [bytes(size - 1), bytes(size + 1)]
        case bounds.Bytes(_, size, int(most)):
            return [b"", bytes(size * most)], [bytes(size - 1), bytes(size * (most + 1))]
        case bounds.Flag():
            return [False, True], [0, 1]
        case bounds.Map(_, depth, entries, chars, optional):
            many = {str(n): 0 for n in range(min(entries, 1_000))}
            within = [
                {},
                _nested(depth),
                {"a": "x" * (chars - 1)},
                *([None] if optional else []),
            ]
            too_many = {"a": list(range(entries + 1))} if depth > 1 else {**many, "x": 1}
            return within, [_nested(depth + 1), {"a": "x" * chars}, too_many, {"a": math.inf}]
        case bounds.Value(depth):
            return [None, _nested(depth)], [_nested(depth + 1), [math.nan]]
        case bounds.Indices(_, least, most, distinct):
            within = [list(range(least)), list(range(most)), [bounds.MAX_INDEX], [7, 3]]
            beyond = [list(range(most + 1)), [bounds.MAX_INDEX + 1], [-1], [1.0], [True]]
            return within, [*beyond, *([[3, 3]] if distinct else []), *([[]] if least else [])]
        case bounds.Statuses(highest):
            return [bytes([highest])], [bytes([highest + 1])]
        case bounds.Bodies(_, least, most):
            # None at all is among the odd values: most vectors beside it have an entry.
            return [[b""] * max(1, least), [b"x"] * most], [[b""] * (most + 1)]
    raise AssertionError(f"no edges for {bound}")


def sample(kind: Any, /, **given: Any) -> Any:
    """A small valid message or group."""
    values = {name: _small(bound) for name, bound in bounds.of_fields(kind).items()}
    if kind in GROUPS and "indices" in values:
        count = len(values["indices"])
        values.update({n: [b""] * count for n in ("bodies",) if n in values})
        values.update({n: bytes(count) for n in ("statuses",) if n in values})
    if "protocol" in values:
        values["protocol"] = messages.PROTOCOL_VERSION
    return kind(**{**values, **given})


def cases(kind: Any) -> Iterator[Case]:
    """Yield messages of a kind; in each, one field is at or beyond its bounds."""
    for name, bound in bounds.of_fields(kind).items():
        field = f"{kind.__name__}.{name}"
        if isinstance(bound, bounds.Groups):
            for inner in cases(bound.group):
                yield Case(sample(kind, **{name: [inner.message]}), inner.field, inner.fits)
            continue
        within, beyond = edges(bound)
        fits = bounds.fits(kind)
        # What is at a bound or beyond is told here, and not by the check that is tried.
        told = [(value, True) for value in within] + [(value, False) for value in beyond]
        for value, known in (*told, *((value, None) for value in ODD)):
            if isinstance(bound, bounds.Bodies) and not _is_packed(value):
                continue
            one = _evened(sample(kind, **{name: value}), name, bound)
            yield Case(one, field, fits(one) if known is None else known)


def encoded(message: Any) -> list[bytes] | None:
    """Its frames; `None` if msgpack has no such number."""
    try:
        return [bytes(frame) for frame in wire.encode(message)]
    except (OverflowError, TypeError, ValueError, AttributeError):
        return None


def _is_packed(value: Any) -> bool:
    """Whether `wire.encode` sends this vector of bodies as it is, without frames for what is in it."""
    return type(value) is not list or set(map(type, value)) <= {bytes}


def _evened(one: Any, name: str, bound: bounds.Bound) -> Any:
    """The same with its other vectors as long as the one in question, and sums that hold."""
    value = getattr(one, name)
    if isinstance(bound, bounds.Indices | bounds.Bodies) and type(value) is list:
        if hasattr(one, "bodies") and name == "indices":
            one.bodies = [b""] * len(value)
        if hasattr(one, "indices") and name == "bodies":
            one.indices = list(range(len(value)))
        if hasattr(one, "statuses"):
            one.statuses = bytes(len(value))
    if isinstance(bound, bounds.Statuses) and type(value) is bytes:
        one.indices, one.bodies = list(range(len(value))), [b""] * len(value)
    return one


def _small(bound: bounds.Bound) -> Any:  # noqa: PLR0911 - a case for each kind
    match bound:
        case bounds.Int(_, low, high):
            return min(max(low, 1), high)
        case bounds.Float(_, low):
            return max(low, 0.5)
        case bounds.Text():
            return "x"
        case bounds.Groups(group):
            return [sample(group)]
        case bounds.Map() | bounds.Value():
            return {}
        case bounds.Indices(_, least):
            return list(range(max(1, least)))
        case bounds.Statuses():
            return b"\0"
        case bounds.Bodies():
            return [b""]
    return edges(bound)[0][0]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


__all__ = ["GROUPS", "KINDS", "Case", "cases", "edges", "encoded", "sample"]
