"""Each field of each message: what is within its bound comes through, what is beyond does not."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import msgpack
import pytest

from harness.hostile import Case, cases, encoded, sample
from harness.strategies import KINDS
from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import bounds, wire
from manyhands_shared.protocol import messages as m


def kind_of(case: Case) -> str:
    return case.field.partition(".")[0]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_keeps_its_bounds(kind: type) -> None:
    tried = 0
    for case in cases(kind):
        frames = encoded(case.message)
        if frames is None:
            continue
        tried += 1
        if case.fits:
            message = wire.decode(frames)
            assert wire.decode(wire.encode(message)) == message
            continue
        with pytest.raises(
            ProtocolError, match=rf"{kind_of(case)}\.|not msgpack|differ in length|frames"
        ):
            wire.decode(frames)
    assert tried > 20 * len(bounds.of_fields(kind)) / 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_small_one_of_each_kind_is_let_through(kind: type) -> None:
    assert wire.refusal(sample(kind)) == ""


def test_minus_zero_arrives_as_zero() -> None:
    group = m.ResultGroup("job", 1, [0], b"\0", [b""], -0.0)
    message = wire.decode(wire.encode(m.Results(1, [group])))
    assert isinstance(message, m.Results)
    assert math.copysign(1, message.groups[0].seconds) == 1


@pytest.mark.parametrize(
    ("group", "fits"),
    [
        (m.SubmitGroup("job", bytes(16), {}, bounds.MAX_INDEX, True, [b""]), True),
        (m.SubmitGroup("job", bytes(16), {}, bounds.MAX_INDEX, True, [b"", b""]), False),
    ],
)
def test_sums_have_bounds(group: m.SubmitGroup, fits: bool) -> None:
    assert (wire.refusal(m.Submit([group])) == "") is fits


def test_all_vectors_of_a_message_have_a_bound_together() -> None:
    span = m.Span("job", 1, list(range(bounds.MAX_TASKS)))
    most = bounds.MAX_ENTRIES // bounds.MAX_TASKS
    assert wire.refusal(m.Cancel([span] * most)) == ""
    refusal = wire.refusal(m.Cancel([*[span] * most, m.Span("job", 1, [1])]))
    assert "more than 1,048,576 entries" in refusal


@pytest.mark.parametrize("filler", [b"\x90", b"\x80", b"\x91\xc0"], ids=["lists", "maps", "filled"])
def test_a_header_of_empty_containers_is_given_up_soon(filler: bytes) -> None:
    inner = msgpack.Packer().pack_array_header(60_000) + filler * 60_000
    header = b"\x92\x17" + msgpack.Packer().pack_array_header(130) + inner * 130
    assert len(header) > 7 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="not msgpack"):
            wire.decode([header])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Each of them takes 56 bytes or more: all would take half a gigabyte, and seconds to make.
    assert most < 56 * 60_000 * 130 / 4


def test_a_refusal_says_what_it_is_about() -> None:
    said: list[Any] = [
        wire.refusal(m.Query(1, "x", {"a": 1 << 70})),
        wire.refusal(m.Ping(-1)),
    ]
    assert all(said)
    assert said[1] == "Ping.counter is not u64: 0 to 2^64 - 1"
