"""docs/protocol.md and the code say the same, both ways."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from harness.strategies import GROUPS, KINDS
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol import bounds, heartbeat, wire
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import PROTOCOL_VERSION, Status

PAGE = Path(__file__).parents[4] / "docs/protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")
#: Who says it to whom: C is a client, N a node, B the broker.
WAYS = {
    "any",
    "C → B",
    "B → C",
    "N → B",
    "B → N",
    "B → C, N",
    "C → B → N, N → B → N",
    "N → B → C, N → B → N",
    "C → B → N",
    "N → B → C",
}
WAYS |= {"B → C, N → B", "B → N, C → B", "C → N", "N → C", "C → B, B → C"}
#: A is a host agent, M a member.
WAYS |= {"A → B", "B → A", "A → B → A", "M → A", "N → A", "A → B, B → A"}
_REFUSED = re.compile(r'\bRefused\(\s*"([a-z-]+)"')


def table(*heading: str) -> list[list[str]]:
    """The rows of the one table with this heading."""
    lines = TEXT.splitlines()
    starts = [at for at, line in enumerate(lines) if cells(line) == list(heading)]
    assert len(starts) == 1, f"{len(starts)} tables with the heading {heading}"
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def fields(cell: str) -> list[tuple[str, str]]:
    """``\\`name\\` type, …`` as pairs."""
    found = re.findall(r"`(\w+)` (\w+[?+]?(?:\(\d+\))?)", cell)
    assert ", ".join(f"`{name}` {kind}" for name, kind in found) == cell
    return found


def declared(kind: type) -> list[tuple[str, str]]:
    return [(name, bound.name) for name, bound in bounds.of_fields(kind).items()]


def used() -> dict[str, bounds.Bound]:
    """Every bound in use, by its name."""
    every = [bounds.of_fields(kind).values() for kind in (*KINDS, *GROUPS)]
    return {bound.name: bound for found in every for bound in found}


def test_messages_are_those_of_the_code() -> None:
    rows = table("number", "message", "way", "fields")
    page = {(int(number), name.strip("`")): fields(cell) for number, name, _, cell in rows}
    code: dict[tuple[int, str], Any] = {
        (kind.NUMBER, kind.__name__): declared(kind)  # type: ignore[attr-defined]
        for kind in KINDS
    }
    assert page == code
    assert len(page) == len(rows)
    assert {way for _, _, way, _ in rows} <= WAYS
    assert [int(row[0]) for row in rows] == sorted(int(row[0]) for row in rows)


def test_groups_are_those_of_the_code() -> None:
    page = {name.strip("`"): fields(cell) for name, cell in table("group", "fields")}
    groups = {bound.group for bound in used().values() if isinstance(bound, bounds.Groups)}
    assert groups == set(GROUPS)
    assert page == {group.__name__: declared(group) for group in groups}


def test_types_and_their_bounds_are_those_of_the_code() -> None:
    page = {name.strip("`"): limit for name, _, limit in table("type", "msgpack", "limit")}
    # Those that say their size where they are used have one row for each kind.
    sized = {"text(n)", "word(n)", "Group(n)"}
    assert sized <= page.keys()
    assert {name: limit for name, limit in page.items() if name not in sized} == {
        name: bound.limit
        for name, bound in used().items()
        if not isinstance(bound, bounds.Text | bounds.Groups)
    }


def test_options_and_their_bounds_are_those_of_the_code() -> None:
    page = {name.strip("`"): limit for name, limit in table("option", "limit")}
    assert page == {name: bound.limit for name, bound in bounds.of_fields(JobOptions).items()}


def test_the_bounds_of_heartbeats_are_those_of_the_code() -> None:
    page = {name.strip("`"): limit for name, limit in table("figure", "limit")}
    assert page == {name: bound.limit for name, bound in bounds.of_fields(heartbeat.Beat).items()}


def test_sums_are_those_of_the_code() -> None:
    said = {
        (name, first, count, high)
        for name, first, count, high in re.findall(
            r"`(\w+)`: `(\w+)` and (?:the number of its )?`(\w+)` reach up to (\S+) together", TEXT
        )
    }
    sums = {kind.__name__: kind.SUM for kind in GROUPS if hasattr(kind, "SUM")}
    assert said == {
        (name, one.first, one.count, bounds.number(one.high)) for name, one in sums.items()
    }


def test_statuses_are_those_of_the_code() -> None:
    page = {int(number): name.strip("`") for number, name, _ in table("number", "name", "meaning")}
    assert page == {status.value: status.name for status in Status}


def test_limits_are_those_of_the_code() -> None:
    page = {name: _number(value) for name, value in table("limit", "value")}
    assert page == {
        "header frame": wire.MAX_HEADER_BYTES,
        "payload frame": wire.MAX_FRAME_BYTES,
        "frames in a message": bounds.MAX_FRAMES,
        "entries of all vectors of a message": bounds.MAX_ENTRIES,
        "lists and maps in a message": wire.MAX_LISTS,
        "key of a map, characters": bounds.MAX_KEY_CHARS,
    }
    assert f"up to {wire.INLINE_BODY_BYTES >> 10} KiB" in TEXT


def test_version_digest_and_datagram_are_those_of_the_code() -> None:
    assert TEXT.startswith(f"# The manyhands protocol, version {PROTOCOL_VERSION}\n")
    assert "BLAKE2b with 16 bytes" in TEXT
    assert len(hashlib.blake2b(b"", digest_size=16).digest()) == 16
    assert f"A UDP datagram of {heartbeat.DATAGRAM_BYTES} bytes" in TEXT
    assert f"magic `{heartbeat.MAGIC.decode()}`" in TEXT


def test_a_payload_is_protocol_five() -> None:
    assert "pickle, protocol 5" in TEXT
    assert pickled.dumps((1, 2))[:2] == b"\x80\x05"


def test_every_code_of_refusal_is_listed() -> None:
    codes = re.search(r"Codes: ([^.]*)\.", TEXT)
    assert codes
    sources = (PAGE.parents[1] / "broker").rglob("*.py")
    code = {name for path in sources for name in _REFUSED.findall(path.read_text(encoding="utf-8"))}
    assert code <= set(re.findall(r"`([a-z-]+)`", codes[1]))


def _number(text: str) -> int:
    number, _, unit = text.partition(" ")
    return int(number.replace(",", "")) << {"": 0, "MiB": 20, "GiB": 30}[unit]
