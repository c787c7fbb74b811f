"""Messages to frames and back.

A message on the wire is one *header frame*, a msgpack array ``[number, field, …]``, and behind it
the payload frames that the header's bodies count. In a `bodies` vector a `bytes` entry is a payload
of its own; an integer *n* says that the payload is the next *n* frames.

`decode` trusts nothing: sizes, types, counts and ranges are checked here, once, so that the cores
behind it may believe what they read. Checks on vectors run at the speed of C (`set(map(type, …))`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, get_args, get_type_hints

import msgpack

from manyhands_shared import messages
from manyhands_shared.errors import ProtocolError
from manyhands_shared.messages import Message
from manyhands_shared.serial import Buffer, Payload

MAX_HEADER_BYTES = 32 << 20
MAX_FRAME_BYTES = 4 << 30
MAX_FRAMES = 65_536
MAX_TASKS = 65_536
MAX_TEXT_CHARS = 262_144
MAX_JOB_CHARS = 64
MAX_INDEX = (1 << 48) - 1
#: A task's payload up to this size rides in the header; a larger one gets frames.
INLINE_BODY_BYTES = 64 << 10

#: Keys of stored buffers in one group.
MAX_KEYS = 16

_KEYS_BYTES = range(0, 16 * MAX_KEYS + 1, 16)
_MAX_STATUS = int(max(messages.Status))
#: Kept, for making one takes longer than packing a header.
_PACKER = msgpack.Packer(use_bin_type=True)


def encode(message: Message) -> list[Buffer]:
    """The frames of a message, header first. Large payloads are not copied."""
    frames: list[Buffer] = [b""]
    row = _pack_fields(message, _SHAPES[type(message)], frames)
    row.insert(0, message.NUMBER)
    frames[0] = _PACKER.pack(row)
    return frames


def decode(frames: Sequence[Buffer]) -> Message:
    """The message in `frames`.

    Raises:
        ProtocolError: it is not one, or breaks a limit; the text says how.
    """
    if not frames:
        raise ProtocolError("a message without frames")
    if len(frames) > MAX_FRAMES:
        raise ProtocolError(f"{len(frames)} frames in a message, {MAX_FRAMES} are allowed")
    header = memoryview(frames[0])
    if header.nbytes > MAX_HEADER_BYTES:
        raise ProtocolError(f"a header of {header.nbytes} bytes, {MAX_HEADER_BYTES} are allowed")
    try:
        row = msgpack.unpackb(
            header, raw=False, strict_map_key=True, max_ext_len=0, max_map_len=4096
        )
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen kinds
        raise ProtocolError(f"a header that is not msgpack ({error})") from None
    if type(row) is not list or not row or type(row[0]) is not int:
        raise ProtocolError("a header that is not an array behind a message number")
    build = _BUILD[row[0]]
    rest = iter(frames)
    next(rest)
    message = build(row, rest)
    if next(rest, None) is not None:
        raise ProtocolError(f"{type(message).__name__} with more frames than its bodies count")
    return message  # type: ignore[no-any-return]


def _wrong(kind: Any, row: Any) -> ProtocolError:
    """What is wrong with a row that no `kind` can be built from."""
    name, shape = kind.__name__, _SHAPES[kind]
    if type(row) is not list:
        return ProtocolError(f"a {name} that is not an array")
    values = row if kind in _GROUPS else row[1:]
    if len(values) != len(shape.names):
        return ProtocolError(f"{name} has {len(shape.names)} fields, {len(values)} came")
    for field, wire_type, value in zip(shape.names, shape.wire_types, values, strict=True):
        if not _CHECKS[wire_type](value):
            return ProtocolError(f"{name}.{field} is not a valid {wire_type}")
    if kind in _GROUPS and len(values[0]) > MAX_JOB_CHARS:
        return ProtocolError(f"a job id of {len(values[0])} characters")
    return ProtocolError(f"a {name} whose vectors differ in length")


def _pack_fields(value: Any, shape: _Shape, frames: list[Buffer]) -> list[Any]:
    """The fields of a message or group in order, as msgpack takes them."""
    row = shape.fields(value)
    for position, group in shape.nested:
        entry = row[position]
        if group is None:
            row[position] = _pack_bodies(entry, frames)
        else:
            inner = _SHAPES[group]
            row[position] = [_pack_fields(part, inner, frames) for part in entry]
    return row


def _pack_bodies(bodies: list[Payload], frames: list[Buffer]) -> list[bytes | int]:
    if set(map(type, bodies)) <= {bytes} and max(map(len, bodies), default=0) <= INLINE_BODY_BYTES:
        return bodies  # type: ignore[return-value]
    packed: list[bytes | int] = []
    for body in bodies:
        if isinstance(body, bytes) and len(body) <= INLINE_BODY_BYTES:
            packed.append(body)
        elif isinstance(body, tuple):
            packed.append(len(body))
            frames.extend(body)
        else:
            packed.append(1)
            frames.append(body)
    return packed


def _unpack_bodies(bodies: list[Any], frames: Iterator[Buffer]) -> list[Payload]:
    if set(map(type, bodies)) <= {bytes}:
        return bodies
    unpacked: list[Payload] = []
    for body in bodies:
        if type(body) is bytes:
            unpacked.append(body)
            continue
        parts = tuple(frame for _, frame in zip(range(body), frames, strict=False))
        if len(parts) != body:
            raise ProtocolError(f"a body of {body} frames of which {len(parts)} came")
        unpacked.append(parts)
    return unpacked


def _is_indices(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) <= MAX_TASKS
        and (
            not value
            or (set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= MAX_INDEX)
        )
    )


def _is_bodies(value: Any) -> bool:
    if type(value) is not list or len(value) > MAX_TASKS:
        return False
    kinds = set(map(type, value))
    if kinds <= {bytes}:
        return True
    return kinds <= {bytes, int} and all(type(v) is bytes or 1 <= v <= MAX_FRAMES for v in value)


def _is_statuses(value: Any) -> bool:
    return type(value) is bytes and (not value or max(value) <= _MAX_STATUS)


def _is_map(value: Any) -> bool:
    return type(value) is dict and all(type(key) is str and len(key) <= 256 for key in value)


#: What a value of each wire type is, as an expression.
_TESTS: dict[str, str] = {
    "u32": f"type({{0}}) is int and 0 <= {{0}} <= {(1 << 32) - 1}",
    "u64": f"type({{0}}) is int and 0 <= {{0}} <= {(1 << 64) - 1}",
    "seconds": "type({0}) in (float, int) and 0 <= {0} <= 1e10",
    "text": f"type({{0}}) is str and len({{0}}) <= {MAX_TEXT_CHARS}",
    "id16": "type({0}) is bytes and len({0}) == 16",
    "key32": "type({0}) is bytes and len({0}) == 32",
    "keys": "type({0}) is bytes and len({0}) in _KEYS_BYTES",
    "flag": "type({0}) is bool",
    "map": "_is_map({0})",
    "map?": "({0} is None or _is_map({0}))",
    "value": "True",  # msgpack's own types, bounded by the header's size
    "indices": "_is_indices({0})",
    "statuses": "_is_statuses({0})",
    "bodies": "_is_bodies({0})",
    "groups": f"type({{0}}) is list and len({{0}}) <= {MAX_TASKS}",
}
_CHECKS: dict[str, Callable[[Any], bool]] = {
    wire_type: eval(f"lambda value: {test.format('value')}") for wire_type, test in _TESTS.items()
}


class _Shape:
    """How a message or group looks on the wire, read once from its annotations."""

    __slots__ = ("fields", "names", "nested", "parallel", "wire_types")

    def __init__(self, kind: Any) -> None:
        hints = get_type_hints(kind, include_extras=True)
        self.names = [field.name for field in fields(kind)]
        known = [get_args(hints[name])[1:] for name in self.names]
        self.wire_types: list[str] = [wire_type for wire_type, *_ in known]
        #: Positions of payload vectors, and of vectors of groups with the class of these.
        self.nested: list[tuple[int, Any]] = [
            (position, group[0] if group else None)
            for position, (wire_type, *group) in enumerate(known)
            if wire_type in ("bodies", "groups")
        ]
        #: Positions of the vectors of a group, which are equally long.
        self.parallel = [
            position
            for position, wire_type in enumerate(self.wire_types)
            if kind in _GROUPS and wire_type in ("indices", "statuses", "bodies")
        ]
        self.fields = _reader(self.names)


def _reader(names: list[str]) -> Callable[[Any], list[Any]]:
    """What takes the fields of an instance, all in one call."""
    if len(names) == 1:
        (name,) = names
        return lambda value: [getattr(value, name)]
    read = attrgetter(*names)
    return lambda value: list(read(value))


_GROUPS: tuple[type, ...] = (
    messages.JobCount,
    messages.Span,
    messages.SubmitGroup,
    messages.AssignGroup,
    messages.ResultGroup,
    messages.InputGroup,
)


class _Shapes(dict[type, _Shape]):
    """Shapes, each looked up when it is first wanted: no process speaks all messages."""

    def __missing__(self, kind: type) -> _Shape:
        shape = self[kind] = _Shape(kind)
        return shape


_SHAPES = _Shapes()


def _builder(kind: Any) -> Callable[[Any, Iterator[Buffer]], Any]:
    """Compile what checks a row and makes a message or group of it.

    Written out as `dataclasses` writes its methods: to look up and call each check takes twice the time.
    """
    shape, group = _SHAPES[kind], kind in _GROUPS
    values = [f"v{place}" for place in range(len(shape.names))]
    tests = [
        _TESTS[wire_type].format(value)
        for wire_type, value in zip(shape.wire_types, values, strict=True)
    ]
    if group:
        tests.append(f"len(v0) <= {MAX_JOB_CHARS}")
    if len(shape.parallel) > 1:
        tests.append(" == ".join(f"len(v{place})" for place in shape.parallel))
    row = ", ".join(values if group else ["_", *values])
    lines = [
        f"    if not (type(row) is list and len(row) == {row.count(',') + 1}):",
        "        raise _wrong(kind, row)",
        f"    {row}, = row",
        f"    if not ({' and '.join(tests)}):",
        "        raise _wrong(kind, row)",
    ]
    names: dict[str, Any] = {"kind": kind}
    for place, inner in shape.nested:
        if inner is None:
            lines.append(f"    v{place} = _unpack_bodies(v{place}, frames)")
        else:
            names[f"build{place}"] = _builder(inner)
            lines.append(f"    v{place} = [build{place}(entry, frames) for entry in v{place}]")
    source = "\n".join(["def build(row, frames):", *lines, f"    return kind({', '.join(values)})"])
    exec(source, {**globals(), **names}, names)
    return names["build"]  # type: ignore[no-any-return]


class _Builders(dict[int, Callable[[Any, Iterator[Buffer]], Any]]):
    """Builders by message number, compiled when the first such message comes."""

    def __missing__(self, number: int) -> Callable[[Any, Iterator[Buffer]], Any]:
        kind = _BY_NUMBER.get(number)
        if kind is None:
            raise ProtocolError(f"unknown message number {number}")
        builder = self[number] = _builder(kind)
        return builder


_BY_NUMBER: dict[int, Any] = {kind.NUMBER: kind for kind in get_args(Message)}
_BUILD = _Builders()
