"""Hypothesis strategies that build any valid message from the wire types in its annotations."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from manyhands_shared import messages, serial, wire
from manyhands_shared.messages import Message

KINDS: tuple[type, ...] = get_args(Message)

_U32 = st.integers(0, 2**32 - 1)
_U64 = st.integers(0, 2**64 - 1)
_TEXT = st.text(max_size=40)
_NUMBERS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
#: Everything that msgpack holds, except containers and extension types.
SCALARS = st.none() | _NUMBERS | _TEXT | st.binary()
_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)
)
_MAPS = st.dictionaries(_TEXT, _VALUES, max_size=4)
_INDEX = st.integers(0, wire.MAX_INDEX)
_STATUS = st.sampled_from(list(messages.Status))
#: A small body, one too large for the header, and one of several frames (some of them empty).
_BODY: st.SearchStrategy[serial.Payload] = (
    st.binary(max_size=50)
    | st.just(b"x" * (wire.INLINE_BODY_BYTES + 1))
    | st.lists(st.binary(max_size=20), min_size=1, max_size=4).map(tuple)
)
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "u32": _U32,
    "u64": _U64,
    "seconds": st.floats(0, 1e10),
    "text": _TEXT,
    "id16": st.binary(min_size=16, max_size=16),
    "key32": st.binary(min_size=32, max_size=32),
    "keys": st.lists(st.binary(min_size=16, max_size=16), max_size=wire.MAX_KEYS).map(b"".join),
    "flag": st.booleans(),
    "map": _MAPS,
    "map?": st.none() | _MAPS,
    "value": _VALUES,
    "bodies": st.lists(_BODY, max_size=4),
}


def wire_types(kind: type) -> list[tuple[str, str, Any]]:
    """(field, wire type, group class or `None`) of each field of a message or group."""
    hints = get_type_hints(kind, include_extras=True)
    rows = []
    for field in fields(kind):  # type: ignore[arg-type]
        _, name, *group = get_args(hints[field.name])
        rows.append((field.name, name, group[0] if group else None))
    return rows


@st.composite
def built(draw: st.DrawFn, kind: type) -> Any:
    """An instance of a message or group class. Vectors of one group have one length."""
    rows = wire_types(kind)
    count = draw(st.integers(0, 4))
    values: dict[str, Any] = {}
    for name, wire_type, group in rows:
        if wire_type == "groups":
            values[name] = draw(st.lists(built(group), max_size=3))
        elif wire_type == "indices":
            values[name] = draw(st.lists(_INDEX, min_size=count, max_size=count))
        elif wire_type == "statuses":
            values[name] = bytes(draw(st.lists(_STATUS, min_size=count, max_size=count)))
        elif wire_type == "bodies" and any(other == "indices" for _, other, _ in rows):
            values[name] = draw(st.lists(_BODY, min_size=count, max_size=count))
        else:
            values[name] = draw(_PLAIN[wire_type])
    return kind(**values)


def any_message() -> st.SearchStrategy[Any]:
    """Any message of the protocol."""
    return st.sampled_from(KINDS).flatmap(built)
