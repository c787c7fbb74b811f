"""Arguments of a task with the results of others that it has for inputs: one body, made by the broker.

Its first frame is a msgpack array, and so begins in another way than a pickle of protocol 5::

    [owner, [held, length, …], [held, length, …], …]

There is one entry for each input: whether its node holds it, and the lengths of its payload's frames.
`owner` is the public name of the client's session. The second frame has all frames of inputs shorter
than `APART_BYTES`, one behind the other. Longer ones follow as frames of their own, in order. The last
frames are the arguments as the client has submitted them. The payload of a held input is its ticket.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer, Payload

#: A frame of this size is worth one of its own.
APART_BYTES = 32 << 10
_PICKLE = 0x80


class GivenResult(NamedTuple):
    """A result, or the ticket of a held one."""

    is_held: bool
    payload: Payload


def join(owner: bytes, results: list[tuple[bool, Payload]], arguments: Payload) -> Payload:
    """Return the body of a task that was submitted with `arguments`."""
    head: list[Any] = [owner]
    joined: list[Buffer] = []
    apart: list[Buffer] = []
    for is_held, payload in results:
        entry: list[Any] = [is_held]
        for frame in payload if isinstance(payload, tuple) else (payload,):
            length = memoryview(frame).nbytes
            entry.append(length)
            (joined if length < APART_BYTES else apart).append(frame)
        head.append(entry)
    own = arguments if isinstance(arguments, tuple) else (arguments,)
    return (msgpack.packb(head, use_bin_type=True), b"".join(map(bytes, joined)), *apart, *own)


def has_results(body: tuple[Buffer, ...]) -> bool:
    """Whether a body has more in it than its client has submitted."""
    # What is submitted is a pickle, or of a safe job one frame of msgpack.
    return len(body) > 1 and memoryview(body[0])[0] != _PICKLE


def split(body: tuple[Buffer, ...]) -> tuple[bytes, list[GivenResult], Payload]:
    """Return the owner, the results and the arguments of a body.

    Raises:
        ProtocolError: it is none.
    """
    try:
        owner, *entries = msgpack.unpackb(bytes(body[0]), raw=False)
        joined, at, frames = memoryview(body[1]), 0, iter(body[2:])
        results = []
        for is_held, *lengths in entries:
            parts: list[Buffer] = []
            for length in lengths:
                if length < APART_BYTES:
                    parts.append(bytes(joined[at : at + length]))
                    at += length
                else:
                    parts.append(next(frames))
            results.append(GivenResult(bool(is_held), _payload(parts)))
        return bytes(owner), results, _payload(list(frames))
    except Exception as error:  # noqa: BLE001 - whatever msgpack raises, it is none
        raise ProtocolError(f"arguments that cannot be read ({error})") from None


def _payload(parts: list[Buffer]) -> Payload:
    return bytes(parts[0]) if len(parts) == 1 else tuple(parts)
