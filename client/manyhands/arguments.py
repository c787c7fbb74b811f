"""A call's arguments as a payload, taken as they are at the moment of the call."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from manyhands_shared import serial, wire
from manyhands_shared.errors import SubmitError
from manyhands_shared.serial import Payload

# Values that plain pickle takes whole: no buffer to leave outside, nothing that names `__main__`.
_PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})


def pack(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    """Pickle `(args, kwargs)`. The caller may change its arrays afterwards: they are copied.

    Raises:
        SubmitError: something in it cannot be pickled or is too large for a frame.
    """
    if not kwargs and _PLAIN.issuperset(map(type, args)):
        return pickle.dumps((args, {}), 5)
    try:
        payload = serial.dumps((args, dict(kwargs)))
    except Exception as error:
        raise SubmitError(
            f"cannot pickle the arguments: {type(error).__name__}: {error}; "
            "create such objects inside the task, or pass what they are made from"
        ) from error
    if isinstance(payload, bytes):
        return payload
    if any(memoryview(buffer).nbytes > wire.MAX_FRAME_BYTES for buffer in payload):
        raise SubmitError(f"one argument has more than {wire.MAX_FRAME_BYTES} bytes; split it")
    return tuple(map(_snapshot, payload))


def _snapshot(buffer: Any) -> Any:
    view = memoryview(buffer)
    return buffer if view.readonly else bytes(view)
