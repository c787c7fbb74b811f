"""Pickles of classes that go by value, kept as long as the class is what it was.

Each object of a pipe or a queue takes its class along. To pickle a class takes twenty times as long as
to see by its `Fingerprint` that it has not changed. A kept pickle stands in that of the object as bytes,
which the other end loads where it does not know the class (`pickled.load_class`).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from manyhands._submit.fingerprint import Fingerprint
from manyhands._submit.lru import Recent
from manyhands_shared.payloads.by_value.pickler import Pickler, class_id, makes_class
from manyhands_shared.payloads.pickled import load_class

_MAX_CLASSES, _MAX_BYTES = 256, 4 << 20
#: A longer pickle is not kept: to copy it into that of each object takes longer than to make it.
_MOST_BYTES = 64 << 10
#: Pickles of one class that no second object used, before none is kept of it any more.
_MOST_UNUSED = 4
_PROTOCOL = 5


class _Kept:
    """A class, and what is pickled in its place.

    Args:
        kind: the class.
        reducers: of the pickle.
        before: what was kept of the class as it was earlier.
    """

    __slots__ = ("_fingerprint", "_reducers", "_unused", "_used", "kind", "reduced")

    def __init__(self, kind: type, reducers: Mapping[type, Any], before: _Kept | None) -> None:
        self.kind = kind
        self._used = False
        self._unused: int = 0 if before is None or before._used else before._unused + 1
        # Before the pickle: what changes in between is noticed at the next look.
        self._fingerprint = Fingerprint(kind)
        self._reducers = len(reducers)
        #: Nothing for a class that cannot be watched.
        self.reduced: tuple[Any, ...] | None = None
        if self._fingerprint.blind or self._unused == _MOST_UNUSED:
            return
        watched = _Watched(reducers)
        file = io.BytesIO()
        Pickler(file, _PROTOCOL, None, reducers=watched).dump(kind)
        blob = file.getvalue()
        if not watched.used and len(blob) <= _MOST_BYTES:
            names = class_id(kind), kind.__qualname__, kind.__module__
            self.reduced = load_class, (*names, blob)

    @property
    def nbytes(self) -> int:
        """Of the pickle."""
        return 0 if self.reduced is None else len(self.reduced[1][-1])

    def use(self, reducers: Mapping[type, Any]) -> tuple[Any, ...] | None:
        """Return what is pickled in the class's place; nothing if that would be something else now."""
        if self._reducers != len(reducers) or not self._fingerprint.holds():
            return None
        self._used = True
        return self.reduced


class _Watched(dict[type, Any]):
    """Reducers that tell whether any was used: it may do something at each use."""

    used = False

    def __getitem__(self, kind: type) -> Any:
        found = super().__getitem__(kind)
        self.used = True
        return found


class KeepingPickler(Pickler):
    """Pickles by value, a class that is as it was by its kept pickle.

    Args:
        file: where the pickle goes.
        buffer_callback: takes buffers that stay outside.
        reducers: how objects of certain types are reduced.
    """

    def __init__(
        self,
        file: io.BytesIO,
        buffer_callback: Callable[[Any], Any] | None,
        reducers: Mapping[type, Any],
    ) -> None:
        super().__init__(file, _PROTOCOL, buffer_callback, reducers=reducers)
        self._reducers = reducers

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a class to its kept pickle, anything else as ever."""
        if not isinstance(obj, type):
            return super().reducer_override(obj)
        with _lock:
            kept = _known.use(id(obj))
        if kept is not None:
            if kept.reduced is None:
                return super().reducer_override(obj)
            if (known := kept.use(self._reducers)) is not None:
                return known
        reduced = super().reducer_override(obj)
        if not makes_class(reduced):
            return reduced
        kept = _Kept(obj, self._reducers, kept)
        with _lock:
            _known.put(id(obj), kept, kept.nbytes)
        return kept.reduced or reduced


_lock = threading.RLock()
_known: Recent[int, _Kept] = Recent(_MAX_CLASSES, _MAX_BYTES)


def _renew_lock() -> None:
    """In a forked child: its holder may not be here."""
    global _lock  # noqa: PLW0603 - there is one for all classes
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
