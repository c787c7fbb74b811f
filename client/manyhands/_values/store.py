"""Large values that are kept here and lent to the nodes, each once, whatever the number of tasks.

On this host nodes map them where they lie; others get them through the broker, once for each node. A
value lives as long as it is referred to here: by a `Ref`, or by a task that has not ended.
"""

from __future__ import annotations

import mmap
import os
import pickle
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import xxhash

from manyhands._session.inputs.input_refs import MIN_BYTES, DependentPayload, StoredPayload, largest
from manyhands._values.expiring_cache import ExpiringCache
from manyhands_shared import shm
from manyhands_shared.conditions import Condition
from manyhands_shared.errors import SubmitError, SubmitQueueFull
from manyhands_shared.payloads import pickled, refs
from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.payloads.refs import Place
from manyhands_shared.processes.descriptors import NO_DESCRIPTOR
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.public_name import public_name

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that are kept before `put` waits for tasks to end.
MAX_BYTES = 4 << 30
_RECHECK_SECONDS = 0.1
_RECENT_SECONDS = 5.0

_packing = threading.local()


class _Segment:
    """A segment of ours, for as long as this object lives."""

    __slots__ = ("__weakref__", "place")

    def __init__(self, place: Place) -> None:
        self.place = place


class Ref:
    """Stand for a scattered value. A task that gets it as an argument, or inside one, gets the value.

    Arrays in it are read-only there, because all tasks of a node look at the same memory.
    """

    __slots__ = ("_segment", "_value")

    def __init__(self, segment: _Segment | None, value: Callable[[], Any]) -> None:
        self._segment = segment
        self._value = value

    def __repr__(self) -> str:
        size = "" if self._segment is None else f" of {sum(self._segment.place.lengths)} bytes"
        return f"<manyhands.Ref{size}>"

    def __reduce__(self) -> tuple[Any, ...]:
        packer = packing_now()
        if packer is None or self._segment is None:
            # It goes where this client may be gone: the value itself has to go along.
            return _itself, (self._value(),)
        packer.found.append(self._segment)
        return refs.value_of, tuple(self._segment.place)


class _Call:
    """Pickles as a call that makes the value."""

    def __init__(self, head: bytes, parts: list[Any]) -> None:
        self._call = refs.with_buffers, (head, parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


class Store:
    """What a session keeps. Its methods may be called from any thread, but for those that say so.

    Args:
        session: the session's secret token.
        call: has the thread that lends call something.
        check: raises an error once the session is over.
        serve: called with the lender, on that thread, as soon as there is one.
    """

    def __init__(
        self,
        session: bytes,
        call: Callable[[Callable[[], None]], None],
        check: Callable[[], None],
        serve: Callable[[shm.Lender], None],
    ) -> None:
        self._owner = public_name(session)
        self._call = call
        self._check = check
        self._serve = serve
        self._pid = os.getpid()
        self._seed = secrets.randbits(64)
        self._lender: shm.Lender | None = None
        # What is referred to, by its digest and by its key. Of equal ones that threads have put at the
        # same time, the digest leads to one.
        self._segments: weakref.WeakValueDictionary[bytes, _Segment] = weakref.WeakValueDictionary()
        self._by_key: weakref.WeakValueDictionary[bytes, _Segment] = weakref.WeakValueDictionary()
        # The next call may take the same argument when no call is left that does.
        self._recent = ExpiringCache(_RECENT_SECONDS, MAX_BYTES // 4)
        self._arena = shm.Arena()
        self._allocations: dict[bytes, shm.Allocation] = {}
        # Bytes by key.
        self._reserved: dict[bytes, int] = {}
        # What was sent through the broker, and whom to tell when it is gone.
        self._supplied: dict[bytes, Callable[[bytes], None]] = {}
        self._nbytes = 0
        self._room = Condition()

    @contextmanager
    def packing(self, block: bool) -> Iterator[Packer]:
        """Within this, what is pickled in this thread may refer to what is kept here."""
        packer = Packer(self, block=block)
        before = packing_now()
        _packing.packer = packer
        try:
            yield packer
        finally:
            _packing.packer = before

    def scatter(self, value: Any) -> Ref:
        """Keep a value, as it is now.

        Raises:
            SubmitError: it cannot be pickled, or the system has no memory for it.
        """
        try:
            payload = pickled.dumps(value)
        except Exception as error:
            if is_from_handler(error):
                raise
            from manyhands_shared.standard_errors import alike  # noqa: PLC0415 - 8 ms

            message = f"cannot pickle it: {type(error).__name__}: {error}"
            raise alike(SubmitError, message, error) from error
        parts = payload if isinstance(payload, tuple) else (payload,)
        if not shm.host_id():
            copies = tuple(map(bytes, parts))
            return Ref(None, lambda: pickled.loads_shared(copies))
        segment = self.put(parts, block=True)
        if segment is None:
            return Ref(None, lambda: pickled.loads(payload))
        return Ref(segment, lambda: pickled.loads_shared(self.buffers(segment.place.key)))

    def put(self, parts: Sequence[Buffer], *, block: bool) -> _Segment | None:
        """Keep buffers, unless the very same are kept already.

        None: there are too few descriptors left to keep more, and values have to travel whole.

        Raises:
            SubmitError: the system has no memory for them.
            SubmitQueueFull: there is no room, and `block` is false.
        """
        views = [memoryview(part).cast("B") for part in parts]
        lengths = tuple(view.nbytes for view in views)
        digest = self._digest(views)
        size = shm.span(lengths)
        segment = self._segments.get(digest)
        if segment is not None:
            self._recent.use(digest, segment, size)
            return segment
        key = secrets.token_bytes(16)
        self._reserve(key, size, block=block)
        try:
            lender = self._lending()
            allocation = self._arena.place(size)
            if allocation is not None:
                self._allocations[key] = allocation
                digest = self._fill(allocation, views, lengths)
                segment = _Segment(Place(key, lengths, shm.host_id(), lender.address, self._owner))
                weakref.finalize(segment, self._dropped, key).atexit = False
        except BaseException as error:
            self._release(key)
            self._closed(key)
            if not isinstance(error, OSError) or is_from_handler(error):
                raise
            if error.errno in NO_DESCRIPTOR:
                return None
            raise SubmitError(f"no memory to keep {size} bytes: {error}") from None
        if allocation is None or segment is None:
            self._release(key)
            return None
        self._by_key[key] = segment
        self._call(lambda: self._offer(lender, key, allocation))
        self._segments[digest] = segment
        self._recent.use(digest, segment, size)
        return segment

    def buffers(self, key: bytes) -> tuple[Buffer, ...]:
        """Return what is kept under a key, which is referred to.

        Raises:
            OSError, ValueError, KeyError: it cannot be had.
        """
        lengths = self._by_key[key].place.lengths
        allocation = self._allocations[key]
        view = shm.shared_view(allocation.fd, shm.span(lengths), at=allocation.at)
        return shm.cut(view, lengths)

    def supply(self, key: bytes, gone: Callable[[bytes], None]) -> list[Payload]:
        """What is kept under a key as the bodies of a `Stock`; `gone` is called when it is no more.

        On the lending thread.
        """
        try:
            payload = self.buffers(key)
        except (OSError, ValueError, LookupError):
            return []
        self._supplied[key] = gone
        return [payload]

    def close(self) -> None:
        """Lend no more: the session is over. On the lending thread."""
        self._recent.clear()
        if self._lender is not None:
            self._lender.close()
            self._lender = None

    def _digest(self, views: Sequence[memoryview]) -> bytes:
        # Not against an enemy, who would be the caller himself, but his own seed all the same.
        state = xxhash.xxh3_128(seed=self._seed)
        for view in views:
            state.update(view.nbytes.to_bytes(8, "little"))
            state.update(view)
        digest: bytes = state.digest()
        return digest

    def _fill(
        self, allocation: shm.Allocation, views: Sequence[memoryview], lengths: Sequence[int]
    ) -> bytes:
        """Copy buffers to their allocation, and return the digest of what lies there then.

        The caller's other threads may have written to the buffers meanwhile.
        """
        # Not closed by hand: where a signal handler raises, the traceback still has views of it.
        memory = memoryview(mmap.mmap(allocation.fd, shm.span(lengths), offset=allocation.at))
        shm.lay(memory, views)
        return self._digest(shm.cut(memory, lengths))

    def _lending(self) -> shm.Lender:
        with self._room.lock:
            if self._lender is None:
                lender = self._lender = shm.Lender(secrets.token_hex(16), self._asked_early)
                self._call(lambda: self._serve(lender))
            return self._lender

    def _asked_early(self, key: bytes, _hint: bytes) -> None:
        """Answer behind what is queued: a task may be with its node before its value is on offer."""
        self._call(lambda: self._deny(key))

    def _deny(self, key: bytes) -> None:
        if self._lender is not None:
            self._lender.deny(key)

    def _reserve(self, key: bytes, size: int, *, block: bool) -> None:
        while not self._take_room(key, size, 0.0):
            # Without the lock, which another thread may need to let go of a value.
            self._recent.clear()
            if self._take_room(key, size, _RECHECK_SECONDS if block else 0.0):
                return
            if not block:
                raise SubmitQueueFull("too many bytes are kept for tasks; take results first")
            self._check()

    def _take_room(self, key: bytes, size: int, seconds: float) -> bool:
        """Count these bytes as soon as there is room; return whether that was within `seconds`."""
        with self._room.lock:
            if not self._room.wait_for(lambda: self._has_room(size), seconds):
                return False
            self._nbytes += size
            self._reserved[key] = size
            return True

    def _has_room(self, size: int) -> bool:
        return not self._nbytes or self._nbytes + size <= MAX_BYTES

    def _release(self, key: bytes) -> None:
        with self._room.lock:
            size = self._reserved.pop(key, 0)
            self._nbytes -= size
            self._room.notify_all()

    def _offer(self, lender: shm.Lender, key: bytes, allocation: shm.Allocation) -> None:
        if self._lender is lender:
            lender.offer(key, allocation.fd, lambda: self._closed(key), allocation.at)
        else:  # the session ended before
            self._closed(key)

    def _closed(self, key: bytes) -> None:
        allocation = self._allocations.pop(key, None)
        if allocation is not None:
            self._arena.free(allocation)

    def _dropped(self, key: bytes) -> None:
        """Let go of what is not referred to any more. On whatever thread noticed that."""
        if os.getpid() == self._pid:
            self._release(key)
            self._call(lambda: self._withdraw(key))

    def _withdraw(self, key: bytes) -> None:
        gone = self._supplied.pop(key, None)
        if gone is not None:
            gone(key)
        if self._lender is not None and key in self._lender:
            self._lender.withdraw(key, tell=True)
        else:  # an exception came before it was offered
            self._closed(key)


class Packer:
    """Turns what was pickled into what is submitted."""

    def __init__(self, store: Store, *, block: bool) -> None:
        self.store = store
        self._block = block
        #: What the pickle refers to: stored values, and results of other tasks by their futures.
        self.found: list[_Segment] = []
        self._futures: dict[Any, int] = {}

    @property
    def futures(self) -> list[Any]:
        """The futures whose results the pickle refers to, in the order of their numbers."""
        return list(self._futures)

    def given(self, future: Any) -> tuple[Any, ...]:
        """How the future of a task that has not ended is pickled."""
        return refs.given, (self._futures.setdefault(future, len(self._futures)),)

    def finish(self, payload: Payload) -> Payload:
        """Keep the large buffers of a payload, and put references in their place.

        Raises:
            SubmitError, SubmitQueueFull: as `Store.put`.
        """
        large = isinstance(payload, tuple) and any(map(_is_large, payload[1:]))
        lent = (large or self.found) and shm.host_id()
        if not (lent or self._futures):
            return payload
        if isinstance(payload, tuple):
            head, *buffers = payload
            payload = pickle.dumps(_Call(bytes(head), list(map(self._part, buffers))), 5)
        whole = DependentPayload(payload) if self._futures else StoredPayload(payload)
        if isinstance(whole, DependentPayload):
            whole.futures = self.futures
        whole.segments = self.found
        places = [segment.place for segment in self.found]
        whole.nbytes = sum(sum(place.lengths) for place in places)
        whole.inputs = largest((place.key, sum(place.lengths)) for place in places)
        return whole

    def _part(self, buffer: Buffer) -> bytes | tuple[Any, ...]:
        if not (_is_large(buffer) and shm.host_id()):
            return bytes(buffer)
        segment = self.store.put([buffer], block=self._block)
        if segment is None:
            return bytes(buffer)
        self.found.append(segment)
        return tuple(segment.place)


def packing_now() -> Packer | None:
    """Return what this thread pickles arguments for; `None` if it does not."""
    packer: Packer | None = getattr(_packing, "packer", None)
    return packer


def _is_large(buffer: Buffer) -> bool:
    return memoryview(buffer).nbytes >= MIN_BYTES


def _itself(value: Any) -> Any:
    return value
