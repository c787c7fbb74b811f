"""Messages to frames and back.

A message on the wire is one *header frame*, a msgpack array ``[number, field, …]``, and behind it
the payload frames that the header's bodies count. In a `bodies` vector a `bytes` entry is a payload
of its own; an integer *n* says that the payload is the next *n* frames.

`decode` trusts nothing: every bound that `messages` declares is checked here, once, so that the cores
behind it may believe what they read. Checks on vectors run at the speed of C (`set(map(type, …))`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.bounds import MAX_ENTRIES, MAX_FRAMES, MAX_TASKS, Bodies, Groups
from manyhands_shared.protocol.messages import Message, SchedulingMessage

MAX_HEADER_BYTES = 32 << 20
MAX_FRAME_BYTES = 4 << 30
#: A task's payload up to this size rides in the header; a larger one gets frames.
INLINE_BODY_BYTES = 64 << 10

#: Lists and maps in one header. An empty one is a byte on the wire and a hundred in memory.
MAX_LISTS = 4 * MAX_TASKS

#: Up to here a header cannot hold too many of them, so they are not counted.
_SMALL_HEADER_BYTES = 64 << 10
#: Kept, for making one takes longer than packing a header.
_PACKER = msgpack.Packer(use_bin_type=True)
#: Of a message that is all header, as most are.
_NO_FRAMES: Iterator[Buffer] = iter(())
#: For text that is none: names of files, and what users type, may hold halves of a surrogate pair.
_LENIENT = msgpack.Packer(use_bin_type=True, unicode_errors="replace")


def encode(message: Message) -> list[Buffer]:
    """The frames of a message, header first. Large payloads are not copied.

    What UTF-8 has no bytes for arrives as a question mark.
    """
    frames: list[Buffer] = [b""]
    row = _ROWS[type(message)](message, frames)
    try:
        frames[0] = _PACKER.pack(row)
    except UnicodeEncodeError:
        frames[0] = _LENIENT.pack(row)
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
        if header.nbytes <= _SMALL_HEADER_BYTES:
            row = msgpack.unpackb(
                header, raw=False, strict_map_key=True, max_ext_len=0, max_map_len=4096
            )
        else:
            row = _unpack_large(header)
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen kinds
        raise ProtocolError(f"a header that is not msgpack ({error})") from None
    if type(row) is not list or not row or type(row[0]) is not int:
        raise ProtocolError("a header that is not an array behind a message number")
    build = _BUILD[row[0]]
    if len(frames) == 1:
        return build(row, _NO_FRAMES)  # type: ignore[no-any-return]
    rest = iter(frames)
    next(rest)
    message = build(row, rest)
    if next(rest, None) is not None:
        raise ProtocolError(f"{type(message).__name__} with more frames than its bodies count")
    return message  # type: ignore[no-any-return]


def refusal(message: Message) -> str:
    """Why no peer would take a message, in a sentence; empty if its peer will.

    For what is made of something that a user said, before it is sent: peers drop what they do not take.
    """
    try:
        decode(encode(message))
    except (ProtocolError, OverflowError, TypeError, ValueError) as error:
        return str(error)
    return ""


def _unpack_large(header: memoryview) -> Any:
    """Unpack a header of many values; raises ValueError if these are more than any message has."""
    lists, entries = 0, 0

    def count(made: Any) -> Any:
        nonlocal lists, entries
        lists += 1
        entries += len(made)
        if lists > MAX_LISTS or entries > 2 * MAX_ENTRIES:
            raise ValueError("too many values")
        return made

    return msgpack.unpackb(
        header,
        raw=False,
        strict_map_key=True,
        max_ext_len=0,
        max_map_len=4096,
        max_array_len=2 * MAX_TASKS,
        list_hook=count,
        object_hook=count,
    )


def _wrong(kind: Any, row: Any) -> ProtocolError:
    """What is wrong with a row that no `kind` can be built from."""
    name, shape = kind.__name__, _SHAPES[kind]
    if type(row) is not list:
        return ProtocolError(f"a {name} that is not an array")
    values = row if shape.group else row[1:]
    if len(values) != len(shape.bounds):
        return ProtocolError(f"{name} has {len(shape.bounds)} fields, {len(values)} came")
    for (field, bound), value in zip(shape.bounds.items(), values, strict=True):
        if not bounds.check(bound)(value):
            return ProtocolError(f"{name}.{field} is not {bound.name}: {bound.limit}")
    if len({len(values[place]) for place in shape.parallel}) > 1:
        return ProtocolError(f"a {name} whose vectors differ in length")
    if shape.sum is not None:
        return ProtocolError(f"{name}.{shape.sum.first} and {shape.sum.count} reach too far")
    return ProtocolError(f"the vectors of a {name} have more than {MAX_ENTRIES:,} entries")


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
            raise ProtocolError(f"a body of {body} frames, but {len(parts)} came")
        unpacked.append(parts)
    return unpacked


class _Shape:
    """How a message or group looks on the wire, read once from its annotations."""

    __slots__ = ("bounds", "group", "nested", "parallel", "sum")

    def __init__(self, kind: Any) -> None:
        self.bounds = bounds.of_fields(kind)
        #: Whether it is a part of messages.
        self.group = not hasattr(kind, "NUMBER")
        #: Positions of payload vectors, and of vectors of groups with the class of these.
        self.nested: list[tuple[int, Any]] = [
            (place, bound.group if isinstance(bound, Groups) else None)
            for place, bound in enumerate(self.bounds.values())
            if isinstance(bound, Bodies | Groups)
        ]
        #: Positions of the vectors of a group, which are equally long.
        self.parallel = [
            place
            for place, (name, bound) in enumerate(self.bounds.items())
            if self.group and name in ("indices", "statuses", "bodies")
        ]
        self.sum: bounds.Sum | None = getattr(kind, "SUM", None)


class _Shapes(dict[type, _Shape]):
    """Shapes, each looked up when it is first wanted: no process speaks all messages."""

    def __missing__(self, kind: type) -> _Shape:
        shape = self[kind] = _Shape(kind)
        return shape


_SHAPES = _Shapes()


def _writer(kind: Any) -> Callable[[Any, list[Buffer]], list[Any]]:
    """Compile what makes the row of a message or group, as msgpack takes it.

    Its payloads are packed, and what does not fit the header is added to `frames`.
    """
    shape = _SHAPES[kind]
    columns = [f"value.{name}" for name in shape.bounds]
    names: dict[str, Any] = {}
    for place, inner in shape.nested:
        if inner is None:
            columns[place] = f"(bodies := {columns[place]}) and _pack_bodies(bodies, frames)"
        else:
            names[f"write{place}"] = _ROWS[inner]
            columns[place] = f"[write{place}(part, frames) for part in {columns[place]}]"
    if not shape.group:
        columns.insert(0, str(kind.NUMBER))
    source = f"def write(value, frames):\n    return [{', '.join(columns)}]"
    exec(source, globals() | names, names)
    return names["write"]  # type: ignore[no-any-return]


class _Rows(dict[type, Callable[[Any, list[Buffer]], list[Any]]]):
    """Writers, each compiled when the first such message is sent."""

    def __missing__(self, kind: type) -> Callable[[Any, list[Buffer]], list[Any]]:
        writer = self[kind] = _writer(kind)
        return writer


_ROWS = _Rows()


def _builder(kind: Any) -> Callable[[Any, Iterator[Buffer]], Any]:
    """Compile what checks a row and makes a message or group of it.

    Written out as `dataclasses` writes its methods: to look up and call each check takes twice the time.
    """
    shape = _SHAPES[kind]
    values = {name: f"v{place}" for place, name in enumerate(shape.bounds)}
    tests = [bound.test(values[name]) for name, bound in shape.bounds.items()]
    if len(shape.parallel) > 1:
        tests.append(" == ".join(f"len(v{place})" for place in shape.parallel))
    if shape.sum is not None:
        count = values[shape.sum.count]
        if isinstance(shape.bounds[shape.sum.count], Bodies):
            count = f"len({count})"
        tests.append(f"{values[shape.sum.first]} + {count} <= {shape.sum.high}")
    row = ", ".join(values.values() if shape.group else ["_", *values.values()])
    lines = [
        f"    if not (type(row) is list and len(row) == {row.count(',') + 1}):",
        "        raise _wrong(kind, row)",
        f"    {row}, = row",
        f"    if not ({' and '.join(tests)}):",
        "        raise _wrong(kind, row)",
    ]
    for name, bound in shape.bounds.items():
        normal = bound.normal(values[name])
        if normal is not None:
            lines.append(f"    {values[name]} = {normal}")
    names: dict[str, Any] = {"kind": kind}
    for place, inner in shape.nested:
        if inner is None:
            lines.append(f"    v{place} = v{place} and _unpack_bodies(v{place}, frames)")
        else:
            names[f"build{place}"] = _builder(inner)
            lines.append(f"    v{place} = [build{place}(entry, frames) for entry in v{place}]")
            lines += _sum_check(f"v{place}", inner)
    lines.append(f"    return kind({', '.join(values.values())})")
    source = "\n".join(["def build(row, frames):", *lines])
    exec(source, {**vars(bounds), **globals(), **names}, names)
    return names["build"]  # type: ignore[no-any-return]


def _sum_check(groups: str, inner: Any) -> list[str]:
    """Lines that check how much all vectors of these groups hold together; few groups hold less."""
    shape = _SHAPES[inner]
    if not shape.parallel:
        return []
    vector = list(shape.bounds)[shape.parallel[0]]
    return [
        f"    if len({groups}) > {MAX_ENTRIES // MAX_TASKS}:",
        f"        if sum([len(group.{vector}) for group in {groups}]) > {MAX_ENTRIES}:",
        "            raise _wrong(kind, row)",
    ]


class _Builders(dict[int, Callable[[Any, Iterator[Buffer]], Any]]):
    """Builders by message number, compiled when the first such message comes."""

    def __missing__(self, number: int) -> Callable[[Any, Iterator[Buffer]], Any]:
        kind = _BY_NUMBER.get(number) or _coordination().get(number)
        if kind is None:
            raise ProtocolError(f"unknown message number {number}")
        builder = self[number] = _builder(kind)
        return builder


def _coordination() -> dict[int, Any]:
    """Return the messages of several processes of one program, by number."""
    # 4 ms, for those who speak of it.
    from manyhands_shared.protocol.messages import coordination  # noqa: PLC0415

    return {kind.NUMBER: kind for kind in get_args(coordination.CoordinationMessage)}


_BY_NUMBER: dict[int, Any] = {kind.NUMBER: kind for kind in get_args(SchedulingMessage)}
_BUILD = _Builders()
