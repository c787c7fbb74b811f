"""Python values to payloads and back.

Plain `pickle` is tried first, for it is ten times faster. `cloudpickle` takes over where plain
pickle fails, or would name something in `__main__`, which means another module over there.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads.by_value.class_resolution import HOME, Arrival
from manyhands_shared.payloads.by_value.dynamic_modules import names_made_at_run_time
from manyhands_shared.payloads.payload import MAX_BUFFERS, Buffer, Payload
from manyhands_shared.processes.signal_handlers import is_from_handler

if TYPE_CHECKING:
    from manyhands_shared.payloads.by_value.pickler import Version

#: Out-of-band buffers below this many bytes in all are copied into the pickle: a frame costs more.
INLINE_BYTES = 32 * 1024

_PROTOCOL = 5
# A task may put something else in the place of these, and the next task of its child needs them.
_dumps_plain, load_plain = pickle.dumps, pickle.loads
#: The opcode by which a pickle of protocol 5 reaches code by its name. To look for a number in bytes
#: takes a tenth of the time to look for bytes in them.
STACK_GLOBAL = 0x93
# The ways by a number. Without any of these bytes such a pickle holds built-in values only, and loading
# it runs nothing.
_EXT1, _EXT2, _EXT4 = 0x82, 0x83, 0x84
_PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})


#: The module that enumerations which travel by value are made with.
ENUMS = "manyhands_shared.payloads.by_value.enums"
#: One of these is in a pickle that has something by value in it. To look for them in a long one takes
#: longer than to be told on the way: 6 % of loading a list of numbers.
_BY_VALUE, _BY_VALUE_TOO = b"cloudpickle", ENUMS.encode()
_LONG_BYTES = 4_096
#: What is long enough to have its pickling watched, which takes 0.7 µs and 0.1 for each object.
_LONG_KINDS = frozenset({list, tuple, dict, set, frozenset})
_MANY = 64


class _Process:
    """How this process loads."""

    arrival: Arrival = HOME


def dumps(value: Any, version: Version | None = None) -> Payload:
    """Pickle `value`; large contiguous buffers in it stay outside, uncopied.

    `version` gives classes that travel by value their version. Raises what the value's pickling raises.
    """
    return dumps_and_tell(value, version)[0]


def dumps_and_tell(value: Any, version: Version | None = None) -> tuple[Payload, bool]:
    """Pickle as `dumps`; true if nothing but built-in values is known to be in it.

    That is known of long values. For others ask `is_plain`.
    """
    if type(value) in _PLAIN:
        return _dumps_plain(value, _PROTOCOL), True
    buffers: list[pickle.PickleBuffer] = []
    head, knows_plain = _dumps(value, buffers, version)
    if not buffers:
        return head, knows_plain
    views = [buffer.raw() for buffer in buffers]
    if len(views) > MAX_BUFFERS or sum(view.nbytes for view in views) < INLINE_BYTES:
        return _dumps(value, None, version)
    return (head, *views), knows_plain


def dumps_whole(value: Any) -> bytes:
    """Pickle `value` with everything in it. Raises what the value's pickling raises."""
    return _dumps(value, None, None)[0]


def loads(payload: Payload) -> Any:
    """Return the value of a payload. Its arrays are views of the payload's own buffers.

    A buffer that cannot be written to is copied first: an array is as writable here as where it came
    from.
    """
    if type(payload) is bytes and STACK_GLOBAL not in payload:
        return load_plain(payload)
    if isinstance(payload, tuple):
        head, *buffers = payload
        return load(head, map(writable, buffers))
    return load(payload, None)


def loads_shared(payload: tuple[Buffer, ...]) -> Any:
    """Return the value of a payload with its buffers as they are: they belong to others too."""
    head, *buffers = payload
    return load(head, buffers)


def load(head: Buffer, buffers: Iterable[Buffer] | None) -> Any:
    """Load one pickle with its out-of-band buffers, by what `arrive_at` has said."""
    head = head if type(head) is bytes else bytes(head)
    if len(head) <= _LONG_BYTES and head.find(_BY_VALUE) < 0 and head.find(_BY_VALUE_TOO) < 0:
        return load_plain(head, buffers=buffers)
    return _Unpickler(io.BytesIO(head), buffers=buffers).load()


def load_at(arrival: Arrival | None, head: bytes) -> Any:
    """Load one pickle by what `arrival` says; by what `arrive_at` has said if it is None."""
    before = _Process.arrival
    _Process.arrival = arrival or before
    try:
        return load(head, None)
    finally:
        _Process.arrival = before


def load_class(name: str, qualname: str, module: str, pickle: bytes) -> Any:
    """Return the class of this id if this process knows it, else what its own pickle makes."""
    found = _Process.arrival.find(name, {"qualname": qualname}, module)
    return load(pickle, None) if found is None else found


class _Unpickler(pickle.Unpickler):
    """Loads by `by_value.pickler` what is there by value."""

    def __init__(self, file: io.BytesIO, *, buffers: Iterable[Buffer] | None) -> None:
        super().__init__(file, buffers=buffers)
        self._find_by_value: Callable[[str, str], Any] | None = None

    def find_class(self, module: str, name: str, /) -> Any:
        """Find what a pickle names."""
        if module.partition(".")[0] != "cloudpickle" and module != ENUMS:
            return super().find_class(module, name)
        if self._find_by_value is None:
            from manyhands_shared.payloads.by_value import pickler  # noqa: PLC0415 - loads cloudpickle

            self._find_by_value = pickler.Finder(_Process.arrival).find_class
        return self._find_by_value(module, name)


def arrive_at(arrival: Arrival) -> None:
    """Say what the classes become that this process loads from now on."""
    _Process.arrival = arrival


def writable(buffer: Buffer) -> Buffer:
    """Return the buffer itself if it can be written to, else a copy of it."""
    return bytearray(buffer) if memoryview(buffer).readonly else buffer


def snapshot(payload: Payload) -> Payload:
    """Return the payload with copies of the buffers that can still change.

    A view that cannot be written to is no proof: another one of the same memory may be.
    """
    if isinstance(payload, tuple):
        return tuple(part if _is_immutable(part) else bytes(part) for part in payload)
    return payload


def _is_immutable(buffer: Buffer) -> bool:
    """Whether the memory of a buffer is that of a `bytes` object, which nothing writes to."""
    if type(buffer) is bytes:
        return True
    owner: Any = memoryview(buffer).obj
    numpy = sys.modules.get("numpy")
    while True:
        if type(owner) is memoryview:
            owner = owner.obj
        elif numpy is not None and type(owner) is numpy.ndarray:
            owner = owner.base
        else:
            return type(owner) is bytes


def dumps_by_value(value: Any, keep_outside: int | None = None) -> Payload:
    """Pickle with cloudpickle: functions of `__main__`, lambdas and closures travel by value.

    Buffers of `keep_outside` bytes and more stay outside, uncopied; without it there are none.

    Raises:
        SubmitError: naming what cannot be pickled.
    """
    # 25 ms that a node which never needs it should not pay
    from manyhands_shared.payloads.by_value.script_pickle import dumps_function  # noqa: PLC0415

    views: list[memoryview] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if keep_outside is None or view.nbytes < keep_outside or len(views) == MAX_BUFFERS:
            return True
        views.append(view)
        return False

    try:
        try:
            head = dumps_function(value, inside, more=True)
        except Exception as error:
            if is_from_handler(error):
                raise
            # What may be asked for need not travel.
            views.clear()
            head = dumps_function(value, inside, more=False)
    except Exception as error:
        if is_from_handler(error):
            raise
        from manyhands_shared.standard_errors import alike  # noqa: PLC0415 - 8 ms

        raise alike(
            SubmitError,
            f"cannot pickle {_describe(value)}: {type(error).__name__}: {error}; "
            "create such objects inside the task, or pass what they are made from",
            error,
        ) from error
    return (head, *views) if views else head


def is_plain(payload: Payload) -> bool:
    """Whether loading this can run no code, and so cannot fail; false for some that cannot either."""
    head = payload[0] if type(payload) is tuple else payload
    if type(head) is not bytes:
        head = bytes(head)
    return not (STACK_GLOBAL in head or _EXT1 in head or _EXT2 in head or _EXT4 in head)


def _dumps(
    value: Any, buffers: list[pickle.PickleBuffer] | None, version: Version | None
) -> tuple[bytes, bool]:
    """Pickle `value`; with a list, its out-of-band buffers are left in that list.

    True is said as by `dumps_and_tell`.
    """
    if type(value) in _PLAIN:
        return _dumps_plain(value, _PROTOCOL), True
    keep = None if buffers is None else buffers.append
    is_long = type(value) in _LONG_KINDS and len(value) >= _MANY
    head: bytes | None = None
    try:
        if is_long:
            head, is_plain = _dumps_long(value, keep)
            if is_plain:
                return head, True
        else:
            head = _dumps_plain(value, _PROTOCOL, buffer_callback=keep)
    except Exception as error:  # cloudpickle may know how; if not, its error is the better one
        if is_from_handler(error):
            raise
    if head is not None and (STACK_GLOBAL not in head or not _names_what_was_made(head)):
        return head, False
    from manyhands_shared.payloads.by_value import pickler  # noqa: PLC0415 - as above

    if buffers is not None:
        buffers.clear()  # what plain pickle handed out does not count
    out = io.BytesIO()
    pickler.Pickler(out, _PROTOCOL, keep, version).dump(value)
    return out.getvalue(), False


def _dumps_long(
    value: Any, keep: Callable[[pickle.PickleBuffer], Any] | None
) -> tuple[bytes, bool]:
    """Pickle a long value, and tell whether nothing but built-in values is in it.

    Numbers hold every byte there is, also those by which `is_plain` goes. To look for names in them,
    and to load them as a proof, took a child two thirds of its time for such a result.
    """
    out = io.BytesIO()
    pickler = _Noting(out, _PROTOCOL, buffer_callback=keep)
    pickler.dump(value)
    return out.getvalue(), pickler.is_plain


class _Noting(pickle.Pickler):
    """Notes whether it pickles what is not of a built-in kind."""

    is_plain = True

    def reducer_override(self, obj: object) -> Any:
        """Reduce as ever; pickle asks for this for all else than built-in values."""
        del obj
        self.is_plain = False
        return NotImplemented


def _names_what_was_made(head: bytes) -> bool:
    """Whether a pickle names a module that is not to be imported elsewhere by that name."""
    return any(head.find(name) >= 0 for name in names_made_at_run_time())


def _describe(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{type(value).__name__} {name!r}"
