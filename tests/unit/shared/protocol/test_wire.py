"""Messages survive the wire; what is no message is refused with a `ProtocolError`, nothing else."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.strategies import KINDS, SCALARS, any_message, built
from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import bounds, wire
from manyhands_shared.protocol.messages import (
    Ack,
    Bye,
    Cancel,
    ClientHello,
    Function,
    Ping,
    Query,
    Reply,
    ResultGroup,
    Results,
    Span,
    Submit,
    SubmitGroup,
)


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN equals itself and payload frames are compared by their bytes."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if hasattr(left, "__dataclass_fields__"):
        return type(left) is type(right) and all(
            same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left)
        )
    return type(left) is type(right) and bool(left == right)


def unframed(message: Any) -> Any:
    """`message` as it comes out: a large body of one `bytes` is a tuple of one frame over there."""

    def body(value: Any) -> Any:
        large = isinstance(value, bytes) and len(value) > wire.INLINE_BODY_BYTES
        return (value,) if large else value

    values = {}
    for name, bound in bounds.of_fields(type(message)).items():
        value = getattr(message, name)
        if isinstance(bound, bounds.Bodies):
            value = [body(entry) for entry in value]
        elif isinstance(bound, bounds.Groups):
            value = [unframed(entry) for entry in value]
        values[name] = value
    return type(message)(**values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_message_comes_back_equal(kind: type, data: st.DataObject) -> None:
    message = data.draw(built(kind))
    assert same(wire.decode(wire.encode(message)), unframed(message))


def test_frames_may_be_memoryviews_and_are_not_copied() -> None:
    big = bytearray(b"y" * 1_000_000)
    frames = wire.encode(Function(digest=b"d" * 16, name="f", bodies=[(b"head", memoryview(big))]))
    assert frames[2].obj is big
    back = wire.decode([memoryview(bytes(frames[0])), *frames[1:]])
    assert isinstance(back, Function)
    assert back.bodies[0][1].obj is big  # type: ignore[union-attr]


@settings(max_examples=300, deadline=None)
@given(frames=st.lists(st.binary(max_size=200), max_size=4))
@example(frames=[])
@example(frames=[b""])
def test_random_frames_only_ever_raise_protocol_error(frames: list[bytes]) -> None:
    _decode_or_refuse(frames)


_ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    number=st.sampled_from([kind.NUMBER for kind in KINDS] + [0, 99]),  # type: ignore[attr-defined]
    values=st.lists(_ANY, max_size=8),
    frames=st.lists(st.binary(max_size=9), max_size=3),
)
def test_well_formed_rows_of_wrong_fields_only_ever_raise_protocol_error(
    number: int, values: list[Any], frames: list[bytes]
) -> None:
    try:
        header = msgpack.packb([number, *values])
    except OverflowError:
        return
    _decode_or_refuse([header, *frames])


@settings(max_examples=300, deadline=None)
@given(message=any_message(), data=st.data())
def test_mutated_messages_only_ever_raise_protocol_error(message: Any, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in wire.encode(message)]
    action = data.draw(st.sampled_from(["flip", "cut", "drop frame", "add frame", "swap field"]))
    if action == "flip":
        at = data.draw(st.integers(0, len(frames[0]) - 1))
        frames[0][at] ^= data.draw(st.integers(1, 255))
    elif action == "cut":
        del frames[0][data.draw(st.integers(0, len(frames[0]) - 1)) :]
    elif action == "drop frame":
        del frames[data.draw(st.integers(0, len(frames) - 1))]
    elif action == "add frame":
        frames.append(bytearray(b"surplus"))
    else:
        row = msgpack.unpackb(bytes(frames[0]), strict_map_key=False)
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(_ANY)
        try:
            frames[0] = bytearray(msgpack.packb(row))
        except OverflowError:
            return
    _decode_or_refuse(frames)


def _decode_or_refuse(frames: list[Any]) -> None:
    try:
        message = wire.decode(frames)
    except ProtocolError:
        return
    # What gets in must be something that can be said: it encodes, and means the same again.
    assert same(wire.decode(wire.encode(message)), message)


def _row(*values: Any) -> list[bytes]:
    return [msgpack.packb(list(values))]


SPAN = ["job", 1, [0]]
HELLO = [1, 1, b"s" * 16, "name", 0, 0, {}]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "without frames"),
        ([b"\xc1"], "not msgpack"),
        ([msgpack.packb({"a": 1})], "not an array"),
        ([msgpack.packb([])], "not an array"),
        (_row(True), "not an array"),
        (_row(250), "unknown message number"),
        (_row(8), "has 1 fields, 0 came"),
        (_row(8, 1, 2), "has 1 fields, 2 came"),
        (_row(8, -1), "Ping.counter"),
        (_row(8, True), "Ping.counter"),
        (_row(8, 1.0), "Ping.counter"),
        (_row(7, b"bytes"), "Bye.reason"),
        (_row(7, "x" * 4_097), "Bye.reason"),
        (_row(*HELLO[:2], b"short", *HELLO[3:]), "ClientHello.session"),
        (_row(*HELLO[:6], {"k" * 257: 1}), "ClientHello.info"),
        (_row(*HELLO[:6], {1: 1}), "not msgpack"),
        (_row(*HELLO[:5], 2**32, {}), "ClientHello.limit"),
        ([*_row(8, 1), b"surplus"], "more frames"),
        (_row(16, b"d" * 16, "f", [2]), "but 0 came"),
        (_row(16, b"d" * 16, "f", [0]), "Function.bodies"),
        (_row(16, b"d" * 16, "f", [True]), "Function.bodies"),
        (_row(16, b"d" * 16, "f", ["text"]), "Function.bodies"),
        (_row(16, b"d" * 16, "f", [bounds.MAX_FRAMES + 1]), "Function.bodies"),
        (_row(23, [["job", 1, [-1]]]), "Span.indices"),
        (_row(23, [["job", 1, [2**48]]]), "Span.indices"),
        (_row(23, [["job", 1, [1.5]]]), "Span.indices"),
        (_row(23, [["job", 1, [True]]]), "Span.indices"),
        (_row(23, ["no array"]), "not an array"),
        (_row(23, [["j" * 65, 1, []]]), r"Span.job is not word\(64\)"),
        (_row(21, 1, [["job", 1, [0, 1], b"\0", [b"", b""], 0.0]]), "differ in length"),
        (_row(21, 1, [["job", 1, [0], b"\x09", [b""], 0.0]]), "ResultGroup.statuses"),
        (_row(21, 1, [["job", 1, [0], b"\0", [b""], -1.0]]), "ResultGroup.seconds"),
        (_row(21, 1, [["job", 1, [0], b"\0", [b""], math.nan]]), "ResultGroup.seconds"),
        (_row(21, 1, [["job", 1, [0], b"\0", [b""], math.inf]]), "ResultGroup.seconds"),
        (_row(49, 1, "", msgpack.ExtType(5, b"x")), "not msgpack"),
        ([msgpack.packb([49, 1, "", None])[:-1] + b"\x91" * 5000 + b"\xc0"], "not msgpack"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_named(frames: list[bytes], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        wire.decode(frames)


def test_too_many_frames() -> None:
    with pytest.raises(ProtocolError, match="frames in a message"):
        wire.decode([b"\x91\x08"] * (bounds.MAX_FRAMES + 1))


def test_too_large_a_header() -> None:
    with pytest.raises(ProtocolError, match="a header of"):
        wire.decode([bytes(wire.MAX_HEADER_BYTES + 1)])


def test_too_many_tasks_in_a_group() -> None:
    span = Span("job", 0, list(range(bounds.MAX_TASKS)))
    assert wire.decode(wire.encode(Cancel([span]))) == Cancel([span])
    with pytest.raises(ProtocolError, match=r"Span\.indices"):
        wire.decode(wire.encode(Cancel([Span("job", 0, [*span.indices, 1])])))


def test_a_header_that_promises_more_than_it_holds_costs_nothing() -> None:
    # An array of 2^32-1 entries in five bytes: nothing of that size may be set aside for it.
    for bomb in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(ProtocolError):
            wire.decode([bomb])


def test_small_bodies_ride_in_the_header_and_large_ones_do_not() -> None:
    small, large = b"s" * wire.INLINE_BODY_BYTES, b"l" * (wire.INLINE_BODY_BYTES + 1)
    group = SubmitGroup("job", b"f" * 16, None, 0, True, [small, large, (b"p", b"q")])
    frames = wire.encode(Submit([group]))
    assert [len(frame) for frame in frames[1:]] == [len(large), 1, 1]
    back = wire.decode(frames)
    assert isinstance(back, Submit)
    assert back.groups[0].bodies == [small, (large,), (b"p", b"q")]


def test_frames_are_taken_in_the_order_of_the_header() -> None:
    groups = [
        ResultGroup("a", 1, [0, 1], b"\0\0", [(b"a0", b"A0"), b"inline"], 0.5),
        ResultGroup("b", 2, [7], b"\1", [(b"b7",)], 0.25),
    ]
    frames = wire.encode(Results(3, groups))
    assert frames[1:] == [b"a0", b"A0", b"b7"]
    assert wire.decode(frames) == Results(3, groups)


def test_empty_vectors_are_messages_too() -> None:
    for message in (
        Cancel([]),
        Cancel([Span("job", 0, [])]),
        Results(1, []),
        Ack(0),
        Ping(0),
        Bye(""),
    ):
        assert wire.decode(wire.encode(message)) == message


def test_a_reply_carries_any_value() -> None:
    data = [{"name": "n", "deep": [1, [2.5, None, {"x": b"y"}]]}]
    assert wire.decode(wire.encode(Reply(1, "", data))) == Reply(1, "", data)


def test_field_one_of_both_hellos_is_the_protocol() -> None:
    row = msgpack.unpackb(wire.encode(ClientHello(9, b"s" * 16, "", 0, 0, {}))[0])
    assert row[:2] == [1, 9]


def test_text_that_utf_8_has_no_bytes_for_arrives_all_the_same() -> None:
    query = Query(1, "job", {"id": "a\ud800b"})
    assert wire.decode(wire.encode(query)) == Query(1, "job", {"id": "a?b"})
    assert wire.decode(wire.encode(Bye("\udcff"))) == Bye("?")
