"""A call's arguments as a payload, taken as they are at the moment of the call."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from manyhands._submit.class_versions import version_of
from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads import pickled, safe
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol import wire

if TYPE_CHECKING:
    from manyhands._values.store import Store
    from manyhands_shared.protocol.job_options import JobOptions

# Values that plain pickle takes whole: no buffer to leave outside, nothing that names `__main__`.
_PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})
_dumps_plain = pickle.dumps


def pack(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    store: Store | None = None,
    *,
    block: bool = True,
) -> Payload:
    """Pickle `(args, kwargs)`. The caller may change its arrays afterwards: they are copied.

    Large buffers are kept in `store`, and only referred to; without one everything travels along.

    Raises:
        SubmitError: something in it cannot be pickled or is too large for a frame.
        SubmitQueueFull: the store has no room, and `block` is false.
    """
    if not kwargs and _PLAIN.issuperset(map(type, args)):
        return _dumps_plain((args, {}), 5)
    if store is None:
        return _whole(_dumps(args, kwargs))
    with store.packing(block) as packer:
        payload = packer.finish(_dumps(args, kwargs))
    return _whole(payload)


def packer(
    options: JobOptions, store: Store, *, block: bool = True
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Payload]:
    """How the arguments of a job with these options are packed: as `pack`, or for safe nodes."""
    if options.safe:
        return safe.pack_arguments
    # What a durable job refers to must not need this client.
    kept = None if options.durable else store

    def pack_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        # One plain argument is the most common call: this saves a third of its packing.
        if len(args) == 1 and type(args[0]) in _PLAIN and not kwargs:
            return _dumps_plain((args, {}), 5)
        return pack(args, kwargs, kept, block=block)

    return pack_call


def _dumps(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    try:
        return pickled.dumps((args, dict(kwargs)), version_of)
    except Exception as error:
        if is_from_handler(error):
            raise
        from manyhands_shared.standard_errors import alike  # noqa: PLC0415 - 8 ms

        raise alike(
            SubmitError,
            f"cannot pickle the arguments: {type(error).__name__}: {error}; "
            "create such objects inside the task, or pass what they are made from",
            error,
        ) from error


def _whole(payload: Payload) -> Payload:
    """The payload, with copies of what the caller may change."""
    if isinstance(payload, bytes):
        return payload
    if any(memoryview(buffer).nbytes > wire.MAX_FRAME_BYTES for buffer in payload):
        raise SubmitError(f"one argument has more than {wire.MAX_FRAME_BYTES} bytes; split it")
    return pickled.snapshot(payload)
