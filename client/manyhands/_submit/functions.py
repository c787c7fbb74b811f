"""Functions on their way to the nodes: pickled once, named by their digest, noticed when changed.

A function that can be imported goes by reference. Any other (of `__main__`, a lambda, a closure) goes by
value, with all that it refers to at the moment of the call. Such a pickle is kept and used
again as long as its `Fingerprint` holds; a function that has none is pickled at each call.

Other callables (bound methods, partials, objects with `__call__`) are pickled at every call, as their
state may differ each time.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from manyhands._results.futures import FailedInput
from manyhands._session.inputs.input_refs import MIN_BYTES, StoredPayload
from manyhands._submit.fingerprint import Fingerprint, importable
from manyhands_shared import shm
from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads import pickled, safe
from manyhands_shared.payloads.by_value import main_module
from manyhands_shared.payloads.by_value.text_lookups import may_unpickle
from manyhands_shared.payloads.payload import total
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol import labels
from manyhands_shared.protocol.messages import Function

if TYPE_CHECKING:
    from manyhands._code.surroundings import AskedOptions
    from manyhands._values.store import Store


def pack(
    function: Callable[..., Any],
    value: Any = None,
    store: Store | None = None,
    *,
    block: bool = True,
) -> Function:
    """The function as it travels; `value` is what to send if it is not `function` itself.

    Large buffers that it refers to are kept in `store`; without one everything travels along.

    Raises:
        TypeError: it cannot be called.
        SubmitError: it cannot be pickled.
        SubmitQueueFull: the store has no room, and `block` is false.
    """
    if not callable(function):
        raise TypeError(f"a task calls a function, and {function!r:.80} cannot be called")
    value = function if value is None else value
    blob = _by_reference(value) if value is function and importable(function) else None
    if blob is None:
        blob = _by_value(value, store, block=block)
    digest = hashlib.blake2b(blob, digest_size=16).digest()
    return Function(digest, describe(function), [blob])


def weight(function: Function) -> int:
    """Bytes that a function takes here, with what the store keeps for it."""
    stored = sum(body.nbytes for body in function.bodies if isinstance(body, StoredPayload))
    return total(function.bodies) + stored


def pack_safe(function: Callable[..., Any], how: str = safe.CALL) -> Function:
    """The function as it travels in a safe job: by its name.

    Raises:
        SubmitError: no node could find it by that.
    """
    blob = safe.pack_function(function, how)
    return Function(hashlib.blake2b(blob, digest_size=16).digest(), describe(function), [blob])


def demands(*parts: Callable[..., Any], options: AskedOptions) -> dict[str, Any]:
    """The options of a job that say which nodes can run it, if these are what it calls."""
    if options.safe:
        return {"needs": [labels.MSGPACK]}
    needs: tuple[str, ...] = ()
    if not all(map(importable, parts)):
        import cloudpickle  # noqa: PLC0415 - what sends by value has it loaded

        needs = labels.by_value(cloudpickle.__version__)
    elif options.labels:
        needs = (labels.PICKLE,)
    demands: dict[str, Any] = {"python": labels.PYTHON}
    if needs:
        demands["needs"] = list(dict.fromkeys((*needs, *options.labels)))
    return demands


def describe(function: Callable[..., Any]) -> str:
    """What to call a function before people."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or ""
    return str(name if module in ("", "builtins", "__main__") else f"{module}.{name}")[:200]


def cacheable(function: Any) -> bool:
    """Whether a pickle of it can be kept and checked."""
    return isinstance(function, FunctionType) or importable(function)


def fingerprint(function: Any) -> Fingerprint | None:
    """A fingerprint for a function that goes by value, or may load what does; others need none."""
    if importable(function):
        return Fingerprint(function, by_reference=True) if may_unpickle(function) else None
    return Fingerprint(function) if isinstance(function, FunctionType) else None


def _by_reference(function: Any) -> bytes | None:
    try:
        if not main_module.own_classes() and main_module.manager_key() is None:
            return pickle.dumps(function, 5)
        # 10 ms, and cloudpickle's 25
        from manyhands_shared.payloads.by_value.script_pickle import with_script  # noqa: PLC0415

        return with_script(function)
    except Exception as error:
        if is_from_handler(error):
            raise
        return None  # then by value, whose error is the one to show


def _by_value(value: Any, store: Store | None, *, block: bool) -> bytes:
    if store is None or not shm.host_id():
        payload = pickled.dumps_by_value(value)
    else:
        refusal = f"{describe(value)} refers to a future; pass the future as an argument instead"
        with store.packing(block) as packer:
            try:
                payload = packer.finish(pickled.dumps_by_value(value, MIN_BYTES))
            except FailedInput:
                raise SubmitError(refusal) from None
        if packer.futures:
            raise SubmitError(refusal)
    assert isinstance(payload, bytes)
    return payload
