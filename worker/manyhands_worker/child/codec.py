"""From payloads to functions, arguments and results, in one of three ways.

`PickleCodec` is the usual one. `ForeignPickleCodec` serves a client of another Python. What
went by reference loads everywhere; what went by value holds bytecode that this Python would crash on,
and is refused.
`SafeCodec` serves safe jobs: functions by name, values in msgpack, no pickle anywhere.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from manyhands_shared.payloads import pickled, safe
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.exceptions import of_exception, show
from manyhands_shared.protocol.failure import RESULT_NOT_LOADED, Failure
from manyhands_shared.protocol.status import Status
from manyhands_worker.child.allowed_functions import Patterns, find

#: Status and payload of a result.
Packed = tuple[int, Payload]


class Codec(Protocol):
    """Loading and packing what a task is made of. All but `result` raise whatever the values raise."""

    @property
    def pickles(self) -> bool:
        """Whether an exception may travel as a pickle."""

    def function(self, payload: Payload) -> Any:
        """The function, or a `Setup`."""

    def value(self, payload: Payload) -> Any:
        """A result of another job."""

    def arguments(self, payload: Payload) -> Any:
        """The arguments of a call: positional ones, and those by name."""

    def result(self, value: Any) -> Packed:
        """What a task returned."""


class PickleCodec:
    """PickleCodec of the same Python."""

    pickles = True
    function = value = arguments = staticmethod(pickled.loads)

    def result(self, value: Any) -> Packed:
        """Pickle a result, and prove that it loads."""
        kind = type(value)
        try:
            payload, knows_plain = pickled.dumps_and_tell(value)
        except BaseException as error:  # noqa: BLE001 - code of the value's own
            what = f"{_of(kind)}, cannot be pickled"
            return unsendable(what, error, value, pickles=self.pickles)
        if not (knows_plain or pickled.is_plain(payload) or _is_plain_array(value)):
            try:
                self.value(payload)
            except BaseException as error:  # noqa: BLE001 - as above
                what = f"{_of(kind)}, was pickled but cannot be loaded again"
                return unsendable(what, error, kind=RESULT_NOT_LOADED)
        return Status.OK, payload


class ForeignPickleCodec(PickleCodec):
    """PickleCodec that came from another Python, or go there."""

    pickles = False

    def _loads(self, payload: Payload) -> Any:
        head, *buffers = payload if isinstance(payload, tuple) else (payload,)
        return _ByReference(io.BytesIO(bytes(head)), buffers=buffers).load()

    function = value = arguments = _loads


class SafeCodec:
    """Functions by name, among those on the list if there is one, and msgpack."""

    pickles = False

    def __init__(self, allowed: Patterns | None) -> None:
        self._allowed = allowed

    def function(self, payload: Payload) -> Callable[..., Any]:
        """Find the function.

        Raises:
            PermissionError: it is not on the list.
            LookupError: there is none by that name.
        """
        return find(*safe.unpack_function(payload), self._allowed)

    value = staticmethod(safe.loads)
    arguments = staticmethod(safe.unpack_arguments)

    def result(self, value: Any) -> Packed:
        """Pack a result."""
        try:
            return Status.OK, safe.dumps(value)
        except BaseException as error:  # noqa: BLE001 - a value may be anything at all
            return unsendable(safe.cannot_return(value, error))


class _ByReference(pickle.Unpickler):
    """Loads no functions or classes that travel by value."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "cloudpickle" or module == pickled.ENUMS:
            raise pickle.UnpicklingError(
                "it holds a function or class by value, from or for another Python than this "
                f"{sys.version_info.major}.{sys.version_info.minor}"
            )
        return super().find_class(module, name)


def unsendable(
    what: str,
    error: BaseException | None = None,
    value: Any = None,
    *,
    pickles: bool = False,
    kind: str = "manyhands.ResultError",
) -> Packed:
    """A result that cannot travel, and why: what `error` says, which itself travels with `pickles`."""
    failure = Failure(kind, what)
    if error is not None:
        inner = of_exception(error, skip_frames=1, pickled=pickles)
        failure = replace(
            failure,
            message=f"{what}: {inner.type}: {inner.message}",
            args=(show(error), show(value)),
            traceback=inner.traceback,
            pickle=inner.pickle,
        )
    return Status.UNSENDABLE, failure.encode()


def too_large(value: Any, largest: int) -> Packed:
    """A result beyond what a frame may hold."""
    return unsendable(
        f"{_of(type(value))}, has a part of more than {largest} bytes; return it in pieces"
    )


def _of(kind: type) -> str:
    return f"the result, of type {kind.__qualname__}"


def _is_plain_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject
