"""`SharedMemory` and `ShareableList` as in `multiprocessing.shared_memory`, for processes on any host.

A name is known to all processes of the program. One that the program does not know is looked up in the
system, so that memory of other programs opens too.
"""

from __future__ import annotations

import errno
import mmap
import os
import types
import weakref
from collections.abc import Callable, Mapping
from multiprocessing import shared_memory as _standard
from typing import Any

from manyhands.multiprocessing._memory import segments
from manyhands.multiprocessing._processes import membership
from manyhands_shared.coordination.identity import NO_ID
from manyhands_shared.coordination.kinds import MADE_CHARS, Operation, Outcome
from manyhands_shared.protocol.messages.coordination import Response

__all__ = ["ShareableList", "SharedMemory"]

#: The system's calls.
_posixshmem: Any = _standard._posixshmem  # type: ignore[attr-defined]
_O_CREX: int = _standard._O_CREX  # type: ignore[attr-defined]


class _Mapping:
    """In place of the standard library's `mmap`: this process has the segment until it is closed.

    Args:
        segment: that is mapped.
    """

    def __init__(self, segment: segments.Segment) -> None:
        self._segment: segments.Segment | None = segment
        self._size = segment.size
        #: What views are of. Only they refer to it.
        self._exporter: Callable[[], Any] = lambda: None

    def size(self) -> int:
        """Return the bytes of the segment."""
        return self._size

    def view(self) -> memoryview:
        """Return a view of it. `close` finds out whether it, or one made of it, is still there."""
        # With a first block of memory: 3 ms.
        import ctypes  # noqa: PLC0415

        assert self._segment is not None
        exporter = (ctypes.c_char * self._size).from_buffer(self._segment.view)
        self._exporter = weakref.ref(exporter)
        return memoryview(exporter).cast("B")

    def close(self) -> None:
        """Let go of it.

        Raises:
            BufferError: there is a view of it.
        """
        if self._exporter() is not None:
            raise BufferError("cannot close exported pointers exist")
        self._segment = None


class SharedMemory(_standard.SharedMemory):
    """A block of memory with a name, as `multiprocessing.shared_memory.SharedMemory`.

    Args:
        name: how it is called; a new one has a name made up if there is none.
        create: whether to make a new one.
        size: of a new one.
        track: there is no tracker here; the program's end is the end of its memory.

    Raises:
        FileExistsError, FileNotFoundError: there is one of this name, or none.
        OSError: the system takes no such name.
        ValueError: the size or the name is none.
    """

    #: Of its program; None of what is the system's.
    _secret: bytes | None = None
    # What the standard library has at the class; its types are in no stub.
    _name: str
    _size: int
    _buf: memoryview | None
    _mmap: Any
    _fd: int
    _mode: int
    _prepend_leading_slash: bool

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        del track
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        #: Whether the name is the system's.
        self._of_system = False
        if name is None:
            made = False
            while not made:
                # Looked up each time: programs replace it.
                self._name = _standard._make_filename()  # type: ignore[attr-defined]
                made = self._make(size)
            return
        name = "/" + name if self._prepend_leading_slash else name
        _check(name)
        self._name = name
        if not self._flags & os.O_EXCL and self._find():
            return
        if not self._flags & os.O_CREAT:
            self._open_of_system()
        elif not self._make(size):
            raise self._error(errno.EEXIST)

    def __reduce__(self) -> Any:
        made = type(self), (self.name, False, self.size)
        # A pool's child comes into the program with the first thing of it that it loads.
        return made if self._of_system else (_reopened, (self._secret, *made))

    def unlink(self) -> None:
        """Take the name away. The memory goes when no process has it any more.

        Raises:
            FileNotFoundError: there is no such name.
            SharedStateLost: its program has ended.
            ValueError: the name has a zero byte.
        """
        if self._of_system:
            super().unlink()
            return
        _check(self._name)
        if _ask(Operation.UNNAME, self._name, of=self._secret).outcome != Outcome.OK:
            raise self._error(errno.ENOENT)

    def _make(self, size: int) -> bool:
        """Make the memory and name it; false if the name is another's."""
        if _ask(Operation.FIND, self._name).outcome == Outcome.OK:
            return False
        if not size:
            raise ValueError("cannot mmap an empty file")
        segment = segments.make(size, 1)
        segment.tell()
        if _ask(Operation.NAME, self._name, segment.key).outcome != Outcome.OK:
            return False
        self._take(segment)
        return True

    def _find(self) -> bool:
        found = _ask(Operation.FIND, self._name)
        if found.outcome != Outcome.OK:
            return False
        program = membership.begun()
        self._take(segments.find(program, found.arguments[0], f"the shared memory {self.name}"))
        return True

    def _take(self, segment: segments.Segment) -> None:
        self._secret = segment.secret
        self._mmap = _Mapping(segment)
        self._size = segment.size
        self._buf = self._mmap.view()

    def _open_of_system(self) -> None:
        self._fd = _posixshmem.shm_open(self._name, self._flags, mode=self._mode)
        self._size = os.fstat(self._fd).st_size
        self._mmap = mmap.mmap(self._fd, self._size)
        self._buf = memoryview(self._mmap)
        self._of_system = True

    def _error(self, code: int) -> OSError:
        return OSError(code, os.strerror(code), self._name)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)


def _reopened(
    secret: bytes, kind: Any, arguments: tuple[Any, ...], named: Mapping[str, Any] | None = None
) -> Any:
    """Return what a process of this program has pickled.

    Raises:
        ValueError: it is of another program.
    """
    membership.belong(secret, "shared memory")
    return kind(*arguments, **(named or {}))


def _check(name: str) -> None:
    """Ask the system whether it takes a name. It makes nothing.

    Raises:
        OSError: it does not.
        ValueError: it has a zero byte.
    """
    # Before Python 3.13 it is for the system the end of the name.
    if "\0" in name:
        raise ValueError("embedded null character")
    try:
        os.close(_posixshmem.shm_open(name, os.O_RDWR, mode=0))
    except (FileNotFoundError, PermissionError):
        # It may be another user's.
        return


def _ask(operation: Operation, name: str, *arguments: Any, of: bytes | None = None) -> Response:
    # The system passes over all slashes in front of a name.
    name = "/" + name.lstrip("/")
    if len(name) > MADE_CHARS:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    channel = membership.of(of).channel
    response = channel.request(operation, NO_ID, [name, *arguments])
    assert response is not None
    return response


def _with_ours(function: Any) -> Any:
    """Return a function of the standard library that makes our `SharedMemory`."""
    names = {**function.__globals__, "SharedMemory": SharedMemory}
    made = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__doc__ = function.__doc__
    return made


class ShareableList(_standard.ShareableList):  # type: ignore[type-arg]
    """A list of fixed length in shared memory, as in the standard library."""

    __init__ = _with_ours(_standard.ShareableList.__init__)

    def __reduce__(self) -> Any:
        memory: Any = self.shm
        secret = memory._secret or membership.secret()
        return _reopened, (secret, type(self), (), {"name": memory.name})
