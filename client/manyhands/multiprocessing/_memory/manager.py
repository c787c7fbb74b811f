"""`SharedMemoryManager`: shared memory that goes with its manager."""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing import managers as _standard
from typing import Any

from manyhands.multiprocessing import shared_memory
from manyhands.multiprocessing.managers import BaseManager, Server


class SharedMemoryServer(Server):
    """Keeps the names of the memory that its manager has made, and unlinks it at the end."""

    public = [  # noqa: RUF012 - an instance variable to the type stubs
        *_standard.Server.public,
        *("track_segment", "release_segment", "list_segments"),
    ]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._names: list[str] = []

    def shutdown(self, c: Any) -> None:
        """Unlink what is left, and end the server."""
        for name in [*self._names]:
            self.release_segment(c, name)
        super().shutdown(c)

    def track_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - called by the server
        """Keep a name until the end."""
        self._names.append(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - as above
        """Unlink memory before the end."""
        self._names.remove(segment_name)
        segment = shared_memory.SharedMemory(segment_name)
        segment.close()
        segment.unlink()

    def list_segments(self, c: Any) -> list[str]:  # noqa: ARG002 - as above
        """Return the names that are kept."""
        return self._names


class SharedMemoryManager(BaseManager):
    """Makes `SharedMemory` and `ShareableList` that are unlinked when it shuts down."""

    _Server = SharedMemoryServer

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:  # noqa: N802 - multiprocessing's name
        """Return new memory of `size` bytes."""
        made = shared_memory.SharedMemory(create=True, size=size)
        self._track(made)
        return made

    def ShareableList(self, sequence: Iterable[Any]) -> shared_memory.ShareableList:  # noqa: N802 - as above
        """Return a new list with these values."""
        made: shared_memory.ShareableList = shared_memory.ShareableList(sequence)
        self._track(made.shm)
        return made

    def _track(self, memory: Any) -> None:
        manager: Any = self
        try:
            with manager._Client(manager._address, authkey=manager._authkey) as connection:
                _standard.dispatch(connection, None, "track_segment", (memory.name,))  # type: ignore[attr-defined]
        except BaseException:
            memory.unlink()
            raise
