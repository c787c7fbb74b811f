"""How objects of a program are pickled: by value where they must, primitives by reference."""

from __future__ import annotations

from typing import Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.record import record


@record
class Pickled:
    """A payload, and the keys of the primitives inside, 16 bytes each."""

    payload: Payload
    carries: bytes


def dumps(obj: Any) -> Pickled:
    """Pickle an object for another process of this program.

    Raises what the object's pickling raises.
    """
    raise NotImplementedError


def loads(payload: Payload) -> Any:
    """Return the object of a payload."""
    raise NotImplementedError


def carry(key: bytes) -> None:
    """Note in the pickling that is in progress that it holds the primitive `key`.

    A primitive's ``__reduce__`` calls it. Outside of our picklings nothing happens.
    """
    raise NotImplementedError
