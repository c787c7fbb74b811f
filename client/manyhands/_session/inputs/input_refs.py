"""Which stored values tasks refer to, as the broker is told so that it can place them well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import MAX_KEYS, InputGroup, SubmitGroup

#: Keys of stored buffers, one behind the other, and the bytes under each.
Inputs = tuple[bytes, tuple[int, ...]]


#: A buffer of this size is stored; a smaller one is cheaper to send.
MIN_BYTES = 1 << 20


class StoredPayload(bytes):
    """A payload that refers to what is stored, and keeps it for as long as it lives itself."""

    segments: list[Any]
    inputs: Inputs
    #: Bytes that it keeps.
    nbytes: int


class DependentPayload(StoredPayload):
    """Arguments of a task that has the results of others for inputs."""

    #: Their futures; jobs and indices, in the order of the inputs, once these are known.
    futures: list[Any]
    results: tuple[tuple[str, int], ...]
    #: What those of them have ended with that the session need not know any more: status and body.
    known: dict[tuple[str, int], tuple[int, Payload]]


def largest(values: Iterable[tuple[bytes, int]]) -> Inputs:
    """Of keys and sizes, the largest, as many as the broker can be told of."""
    chosen = sorted(set(values), key=lambda value: (-value[1], value[0]))[:MAX_KEYS]
    return b"".join(key for key, _ in chosen), tuple(size for _, size in chosen)


def inputs_of(group: SubmitGroup) -> list[InputGroup]:
    """The same of each run of tasks of a group that refer to the same values."""
    found: list[InputGroup] = []
    before: Inputs | None = None
    for place, body in enumerate(group.bodies):
        inputs = body.inputs if isinstance(body, StoredPayload) else None
        if inputs is not None and inputs == before:
            last = found.pop()
            found.append(InputGroup(last.job, last.first, last.count + 1, last.keys, last.sizes))
        elif inputs is not None:
            keys, sizes = inputs
            found.append(InputGroup(group.job, group.first + place, 1, keys, list(sizes)))
        before = inputs
    return found
