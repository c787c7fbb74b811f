"""Hypothesis strategies that build any valid message from the bounds in its annotations."""

from __future__ import annotations

import string
from typing import Any, get_args

from hypothesis import strategies as st

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import bounds, messages, wire
from manyhands_shared.protocol.messages import SchedulingMessage, coordination

KINDS: tuple[type, ...] = (
    *get_args(SchedulingMessage),
    *get_args(coordination.CoordinationMessage),
)
#: The parts of messages.
GROUPS: tuple[type, ...] = (
    messages.JobCount,
    messages.Span,
    messages.SubmitGroup,
    messages.AssignGroup,
    messages.ResultGroup,
    messages.Dependency,
    messages.InputGroup,
    messages.JobStanding,
    messages.TaskStanding,
    messages.PrintedGroup,
    messages.RunGroup,
    messages.Stack,
    coordination.MemberState,
    coordination.Patch,
)

_TEXT = st.text(max_size=40)
_WORDS = string.ascii_letters + string.digits + string.punctuation
_NUMBERS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
#: Everything that msgpack holds, except containers and extension types.
SCALARS = st.none() | _NUMBERS | _TEXT | st.binary()
_FINITE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
    | st.binary(max_size=40)
)
#: A small body, one too large for the header, and one of several frames (some of them empty).
_BODY: st.SearchStrategy[Payload] = (
    st.binary(max_size=50)
    | st.just(b"x" * (wire.INLINE_BODY_BYTES + 1))
    | st.lists(st.binary(max_size=20), min_size=1, max_size=4).map(tuple)
)


def of_bound(  # noqa: PLR0911 - a case for each kind
    bound: bounds.Bound,
) -> st.SearchStrategy[Any]:
    """Values that a field of this bound may hold."""
    match bound:
        case bounds.Int(_, low, high):
            return st.integers(low, high)
        case bounds.Float(_, low, high):
            return st.floats(low, high, allow_subnormal=False)
        case bounds.Text(most, least, word):
            letters = st.sampled_from(_WORDS) if word else st.characters(codec="utf-8")
            return st.text(letters, min_size=least, max_size=min(most, 40))
        case bounds.Bytes(_, size, None):
            return st.binary(min_size=size, max_size=size)
        case bounds.Bytes(_, size, most):
            return st.lists(st.binary(min_size=size, max_size=size), max_size=most).map(b"".join)
        case bounds.Flag():
            return st.booleans()
        case bounds.Map(optional=optional, depth=depth):
            filled = st.dictionaries(_TEXT, _plain(depth - 1), max_size=3)
            return st.none() | filled if optional else filled
        case bounds.Value(depth):
            return _plain(min(depth, 3))
        case bounds.Indices(_, least, most, distinct):
            return _vector(st.integers(0, bounds.MAX_INDEX), least, most, distinct=distinct)
        case bounds.Statuses():
            return st.binary(max_size=0)
        case bounds.Bodies(_, least, most):
            return _vector(_BODY, least, most)
        case bounds.Groups(group):
            return st.lists(built(group), max_size=3)
    raise AssertionError(f"no strategy for {bound}")


@st.composite
def built(draw: st.DrawFn, kind: Any) -> Any:
    """An instance of a message or group class. Vectors of one group have one length."""
    fields = bounds.of_fields(kind)
    values = {name: draw(of_bound(bound)) for name, bound in fields.items()}
    if kind in GROUPS and "indices" in fields:
        count = len(values["indices"])
        if "statuses" in fields:
            statuses = st.lists(
                st.sampled_from(list(messages.Status)), min_size=count, max_size=count
            )
            values["statuses"] = bytes(draw(statuses))
        if "bodies" in fields:
            values["bodies"] = draw(st.lists(_BODY, min_size=count, max_size=count))
    reach = getattr(kind, "SUM", None)
    if reach is not None:
        count = values[reach.count]
        size = count if isinstance(count, int) else len(count)
        values[reach.first] = min(values[reach.first], reach.high - size)
    return kind(**values)


def any_message() -> st.SearchStrategy[Any]:
    """Any message of the protocol."""
    return st.sampled_from(KINDS).flatmap(built)


def _vector(
    entries: st.SearchStrategy[Any], least: int, most: int, *, distinct: bool = False
) -> st.SearchStrategy[Any]:
    return st.lists(entries, min_size=least, max_size=min(most, 4), unique=distinct)


def _plain(depth: int) -> st.SearchStrategy[Any]:
    """Plain values of up to `depth` levels."""
    if not depth:
        return _FINITE
    inner = _plain(depth - 1)
    return _FINITE | st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)
