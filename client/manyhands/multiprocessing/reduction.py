"""How objects of a program are pickled: what the script defines by value, primitives by reference.

The names of `multiprocessing.reduction` are here too: what is registered with its `register` counts.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from multiprocessing import reduction as _standard
from multiprocessing.context import get_spawning_popen
from types import FunctionType
from typing import Any, NoReturn

from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value.dynamic_modules import names_made_at_run_time
from manyhands_shared.payloads.payload import MAX_BUFFERS, Buffer, Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.record import record

_PROTOCOL = 5
_PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})
#: A container of plain values can be pickled at once; one with more values is not looked through.
_FEW = 128
#: A pickler writes a string of bytes from this length on by itself. A frame begins with `FRAME`, the
#: first one with `PROTO`.
_LONG_PIECE = 64 * 1024
_FRAME_BEGINS = (b"\x95", b"\x80")
#: Functions here pickle by value, or run nothing else of the script.
_OURS = "manyhands."
#: Names on one machine: a process elsewhere could not use them.
_ONE_MACHINE = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")


@record
class Pickled:
    """A payload, and the keys of the primitives inside, 16 bytes each."""

    payload: Payload
    carries: bytes
    #: Memory that must be there until the payload is loaded.
    memory: Sequence[Any] = ()


class _Noting(threading.local):
    """What the pickling in progress has met: keys, and ends that were deposited; None outside of any."""

    keys: list[bytes] | None = None
    ends: list[bytes] | None = None
    #: Whether the last one of a process has met the proxy of a manager's object.
    proxies = False
    #: Memory that the pickling of a process has met; None outside of any.
    memory: list[Any] | None = None


_noting = _Noting()


def dumps(obj: Any) -> Pickled:
    """Pickle an object for another process of this program.

    Raises what the object's pickling raises.
    """
    if _is_plain(obj):
        return Pickled(pickle.dumps(obj, _PROTOCOL), b"")
    with _note() as keys:
        buffers: list[pickle.PickleBuffer] = []
        head = _dumps(obj, buffers)
        views: list[Buffer] = [buffer.raw() for buffer in buffers]
        if len(views) > MAX_BUFFERS or sum(v.nbytes for v in views) < pickled.INLINE_BYTES:
            if views:
                _withdraw()
                head = _dumps(obj, None)
            views = []
    return Pickled((head, *views) if views else head, b"".join(dict.fromkeys(keys)))


def dumps_process(obj: Any) -> Pickled:
    """Pickle a process that is about to start, with all that it may need of the script.

    Raises what the object's pickling raises.
    """
    # 25 ms that a program without processes does not pay
    from manyhands_shared.payloads.by_value.script_pickle import dumps_function  # noqa: PLC0415

    views: list[Buffer] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < pickled.INLINE_BYTES or len(views) == MAX_BUFFERS:
            return True
        views.append(view)
        return False

    reducers = {**_reducers(), **_piped()}
    _noting.proxies = False
    with _note() as keys, _holding() as memory:
        try:
            head = dumps_function(
                obj, inside, more=True, unpickles=_runs_library(obj), reducers=reducers
            )
        except Exception as error:
            if is_from_handler(error):
                raise
            views.clear()
            keys.clear()
            _withdraw()
            memory.clear()
            head = dumps_function(obj, inside, more=False, reducers=reducers)
    return Pickled((head, *views) if views else head, b"".join(dict.fromkeys(keys)), memory)


def _runs_library(process: Any) -> bool:
    """Whether the code of a process is a library's: that may unpickle functions of the script by name.

    The workers of `concurrent.futures.ProcessPoolExecutor` do so.
    """
    run: Any = getattr(type(process), "run", None)
    if getattr(run, "__module__", "") == "multiprocessing.process":
        run = process._target
    while isinstance(run, partial):
        run = run.func
    run = getattr(run, "__func__", run)
    if not isinstance(run, FunctionType):
        return False
    return run.__module__ != "__main__" and not str(run.__module__).startswith(_OURS)


def loads(payload: Payload) -> Any:
    """Return the object of a payload."""
    return pickled.loads(payload)


def dumps_bytes(obj: Any) -> bytes:
    """Pickle an object for another process of this program as one piece, which `pickle` can load.

    Raises what the object's pickling raises.
    """
    if _is_plain(obj):
        return pickle.dumps(obj, _PROTOCOL)
    # What `_note` does, at a third of its cost: this is paid for each object that a pipe carries.
    outer = _noting.keys, _noting.ends
    _noting.keys, _noting.ends = [], []
    try:
        return _dumps(obj, None)
    except BaseException:
        _withdraw()
        raise
    finally:
        _noting.keys, _noting.ends = outer


def note_end(end: bytes) -> None:
    """Note in the pickling that is in progress that an end was deposited for it."""
    if _noting.ends is not None:
        _noting.ends.append(end)


def note_proxy() -> None:
    """Note in the pickling that is in progress that it holds the proxy of a manager's object."""
    _noting.proxies = True


def has_proxies() -> bool:
    """Return whether the process that was pickled last in this thread holds a proxy."""
    return _noting.proxies


def carry(key: bytes) -> None:
    """Note in the pickling that is in progress that it holds the primitive `key`.

    A primitive's ``__reduce__`` calls it. Outside of our picklings nothing happens.
    """
    if _noting.keys is not None:
        _noting.keys.append(key)


def hold(memory: Any) -> bool:
    """Keep memory until the process runs that is being pickled; false if none is."""
    if _noting.memory is None:
        return False
    _noting.memory.append(memory)
    return True


def register_memory(kind: type, reducer: Callable[[Any], Any]) -> None:
    """Have objects of a type pickled by a function, by any pickler."""
    _of_memory[kind] = reducer
    copyreg.pickle(kind, reducer)


#: How ctypes types are pickled that were used in shared memory.
_of_memory: dict[type, Callable[[Any], Any]] = {}


@contextmanager
def _holding() -> Iterator[list[Any]]:
    outer, _noting.memory = _noting.memory, []
    try:
        yield _noting.memory
    finally:
        _noting.memory = outer


@contextmanager
def _note() -> Iterator[list[bytes]]:
    outer = _noting.keys, _noting.ends
    keys: list[bytes] = []
    _noting.keys, _noting.ends = keys, []
    try:
        yield keys
    except BaseException:
        _withdraw()
        raise
    finally:
        _noting.keys, _noting.ends = outer


def _withdraw() -> None:
    """What was pickled is not used: its ends are not deposited any more."""
    if _noting.ends:
        from manyhands.multiprocessing._processes import ends  # noqa: PLC0415 - it needs this module

        ends.withdraw(_noting.ends)
        _noting.ends.clear()


def _is_plain(obj: Any, depth: int = 2) -> bool:
    """Return whether an object is made of few values that every pickler pickles alike."""
    kind = type(obj)
    if kind in _PLAIN:
        return True
    if kind is dict:
        obj = (*obj, *obj.values())
    elif kind is not tuple and kind is not list:
        return False
    if len(obj) > _FEW:
        return False
    if _PLAIN.issuperset(map(type, obj)):
        return True
    if depth:
        for one in obj:
            if not _is_plain(one, depth - 1):
                return False
    return depth > 0


def _dumps(obj: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    """Pickle plainly where that will do; by value what other processes cannot import."""
    keep = None if buffers is None else buffers.append
    reducers = _reducers()
    pieces = _Pieces()
    plain = pickle.Pickler(pieces, _PROTOCOL, buffer_callback=keep)
    # One dictionary, which the pickler looks into by itself: a chain of them takes 10 µs for each type.
    plain.dispatch_table = {**copyreg.dispatch_table, **reducers}
    try:
        plain.dump(obj)
    except Exception as error:
        if is_from_handler(error):
            raise
        pieces.all.clear()  # by value it may go; if not, that error is the better one
    if pieces.all and not pieces.name_any(names_made_at_run_time()):
        return b"".join(pieces.all)
    if buffers is not None:
        buffers.clear()
    _withdraw()
    # 25 ms where nothing goes by value
    from manyhands._submit.class_pickles import KeepingPickler  # noqa: PLC0415

    with io.BytesIO() as file:
        KeepingPickler(file, keep, reducers).dump(obj)
        return file.getvalue()


class _Pieces:
    """The pieces that a pickler writes: frames, and each long string of bytes by itself."""

    __slots__ = ("all", "write")

    def __init__(self) -> None:
        self.all: list[Buffer] = []
        self.write = self.all.append

    def name_any(self, names: Sequence[bytes]) -> bool:
        """Return whether a name is in a frame; to look through data takes longer than to copy it."""
        # Generators would take as long as to pickle something small.
        for piece in self.all:
            if type(piece) is not bytes:
                continue
            if len(piece) < _LONG_PIECE or piece[:1] in _FRAME_BEGINS:
                for name in names:
                    if name in piece:
                        return True
        return False


def _reducers() -> dict[type, Any]:
    """Return what is registered for certain types with `multiprocessing`, and ours."""
    registered: Mapping[type, Any] = _standard.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return {**registered, **_travelling(), **_of_memory, **_refused()}


@cache
def _travelling() -> dict[type, Any]:
    """Descriptors that travel by the host agent, where the process is not being started with them."""
    from manyhands.multiprocessing._processes import ends  # noqa: PLC0415 - it needs this module

    return ends.reducers()


#: Types that cannot be pickled, once their module is loaded.
_refused_types: dict[type, Any] = {}


def _refused() -> dict[type, Any]:
    if not _refused_types:
        module = sys.modules.get("multiprocessing.synchronize")
        if module is not None:
            _refused_types.update({getattr(module, name): _refuse for name in _ONE_MACHINE})
    return _refused_types


def _piped() -> dict[type, Any]:
    """The standard library's own queues, and what derives from them, as in `concurrent.futures`."""
    module: Any = sys.modules.get("multiprocessing.queues")
    if module is None:
        return {}
    found: dict[type, Any] = {}
    pending: list[type] = [module.Queue, module.SimpleQueue]
    for kind in pending:
        if not kind.__module__.startswith(_OURS):
            found[kind] = _reduce_piped
            pending += kind.__subclasses__()
    return found


def _reduce_piped(queue: Any) -> Any:
    """Keep a process that is started with such a queue on this host: all its getters read one pipe."""
    popen: Any = get_spawning_popen()
    popen.keep_here("a queue of multiprocessing")
    return queue.__reduce_ex__(_PROTOCOL)


def _refuse(obj: Any) -> NoReturn:
    name = type(obj).__name__
    raise pickle.PicklingError(
        f"a {name} of multiprocessing is known on one machine only; make it with "
        f"manyhands.multiprocessing.{name}() instead"
    )


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("multiprocessing.reduction"), name)
