"""Values that lie with the client which made them, and are brought to a task when it is unpickled.

What travels in their place is a `Place`. Pool children set `bring`; no other process can load them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, NamedTuple

from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Buffer


class Place(NamedTuple):
    """Where buffers lie: in a segment with this `key` of 16 bytes, which `lender` lends on `host`.

    They have these `lengths`, one behind the other. `owner` is the public name of the session that
    they belong to, so that they can also be had through the broker.
    """

    key: bytes
    lengths: tuple[int, ...]
    host: str
    lender: str
    owner: bytes


#: Brings the buffers of a place; private ones may be written to without anybody seeing it.
Bring = Callable[[Place, bool], Sequence[Buffer]]


class _Process:
    """What this process can do."""

    bring: Bring | None = None
    given: Callable[[int], Any] | None = None
    waited = 0
    brought = 0


def set_bring(bring: Bring) -> None:
    """From now on stored values can be loaded in this process."""
    _Process.bring = bring


def set_given(given: Callable[[int], Any]) -> None:
    """From now on tasks in this process can have results of other tasks for inputs."""
    _Process.given = given


def given(number: int) -> Any:
    """The value of one of the results that a task has for inputs, counted from 0."""
    if _Process.given is None:
        raise RuntimeError("this is the result of another task; only a task can load it")
    return _Process.given(number)


def itself(value: Any) -> Any:
    """The value: of a result that was here when it became an argument."""
    return value


def private_buffers(place: Place) -> Sequence[Buffer]:
    """The buffers that lie at a place; what is written to them no other process sees."""
    return _bring(place, private=True)


def take_waited() -> int:
    """Nanoseconds for which this process has waited for stored values since the last call."""
    waited, _Process.waited = _Process.waited, 0
    return waited


def brought() -> int:
    """Bytes of stored values that this process has loaded until now."""
    return _Process.brought


def with_buffers(head: bytes, parts: list[Any]) -> Any:
    """Unpickle `head` with these out-of-band buffers; a tuple among them is a `Place`."""
    buffers = [
        buffer
        for part in parts
        for buffer in (
            _bring(Place(*part), private=True) if type(part) is tuple else [pickled.writable(part)]
        )
    ]
    return pickled.load(head, buffers)


def value_of(*place: Any) -> Any:
    """The value whose payload lies at a place. Its arrays are shared with other tasks: read-only."""
    return pickled.loads_shared(tuple(_bring(Place(*place), private=False)))


def _bring(place: Place, *, private: bool) -> Sequence[Buffer]:
    if _Process.bring is None:
        raise RuntimeError("this value lies with its client; only a task can load it")
    began = monotonic_ns()
    _Process.brought += sum(place.lengths)
    try:
        return _Process.bring(place, private)
    finally:
        _Process.waited += monotonic_ns() - began
