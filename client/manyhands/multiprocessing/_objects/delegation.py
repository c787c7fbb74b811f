"""A lock that the broker has delegated to this process: it takes and releases the lock by itself.

Which thread has the lock stands in a *word* of memory that the host agent maps too. Behind it lies a
second word: the lock was called back. A thread first stores the one and then looks at the other, the
agent does it the other way round, with a fence between. So the agent knows that the lock is free, and
gives it back. Or this process sees that it is wanted, and gives it back itself (`RETURN`). Both together
do no harm: a request that does not have the lock any more returns nothing.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import LockWords as LockWordsMessage
from manyhands_shared.shm.mapping import map_segment
from manyhands_shared.shm.segment import new_file

#: Locks that one process can have delegated, and one slot that is none.
_SLOTS = 1_024
_SLOT_BYTES = 16
_AT_ONCE = (False,)


class LockWords:
    """The words of this process's delegated locks.

    Args:
        member: this process's id.
        say: says a message to the host agent, with descriptors.
        again: whether another agent may take the place of that one.

    Raises:
        OSError: the system gives no memory.
        SharedStateLost: the program is over.
    """

    def __init__(
        self, member: bytes, say: Callable[[Message, tuple[int]], None], *, again: bool
    ) -> None:
        size = _SLOTS * _SLOT_BYTES
        self._descriptor = new_file(size)
        try:
            self._memory = map_segment(self._descriptor, size, 0, shared=True, writable=True)
            self.view = memoryview(self._memory).cast("Q")
            self._member = member
            say(self.announcement, (self._descriptor,))
        except BaseException:
            os.close(self._descriptor)
            raise
        if not again:
            os.close(self._descriptor)
            self._descriptor = -1
        self._free = deque(range(1, _SLOTS))

    @property
    def announcement(self) -> LockWordsMessage:
        """What the agent is told, with `descriptor`."""
        return LockWordsMessage(self._member, _SLOTS * _SLOT_BYTES)

    @property
    def descriptor(self) -> int:
        """Of the memory."""
        return self._descriptor

    def take(self, thread: int) -> int:
        """Return a slot for a lock that `thread` is about to have; 0 if there is none."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return 0
        self.view[2 * slot + 1] = 0
        self.view[2 * slot] = thread
        return slot

    def free(self, slot: int) -> None:
        """Let go of a slot."""
        if slot:
            self.view[2 * slot] = 0
            self._free.append(slot)


class Delegation:
    """One lock. It begins with the caller having it.

    Args:
        words: of this process.
        slot: the lock's.
        number: the request that has the lock, as the broker sees it.
    """

    __slots__ = (
        "_recalled",
        "_returning",
        "_slot",
        "_thread",
        "_token",
        "_view",
        "_words",
        "number",
    )

    def __init__(self, words: LockWords, slot: int, number: int) -> None:
        self.number = number
        self._words, self._slot, self._view = words, slot, words.view
        self._thread, self._recalled = 2 * slot, 2 * slot + 1
        self._token = threading.Lock()
        self._token.acquire()
        self._returning = threading.Lock()

    def take(self, thread: int, got: list[bool]) -> bool:
        """Take the lock, if no thread of this process has it and the broker does not want it.

        A signal handler may raise anywhere in here. If `got` has true then, `give` is due.
        """
        # No byte code runs between the call and the note of what it has done.
        got.extend(map(self._token.acquire, _AT_ONCE))
        if not got[0]:
            return False
        view = self._view
        view[self._thread] = thread
        if view[self._recalled]:
            view[self._thread] = 0
            self._token.release()
            return False
        return True

    def give(self) -> bool:
        """Release the lock; false if the broker wants it, and it must be returned."""
        view = self._view
        view[self._thread] = 0
        if view[self._recalled]:
            return False
        if self._token.locked():
            self._token.release()
        # This process may have called it back meanwhile, and found the token taken.
        return not (view[self._recalled] and self._token.acquire(False))

    @property
    def recalled(self) -> bool:
        """Whether the broker wants the lock."""
        return bool(self._view[self._recalled])

    @property
    def taken(self) -> bool:
        """Whether a thread of this process has the lock."""
        return self._token.locked()

    def recall(self) -> bool:
        """Have the lock returned as soon as it is free; whether it is free now."""
        self._view[self._recalled] = 1
        return self._token.acquire(False)

    def begin_return(self) -> bool:
        """Whether the caller is to return the lock, and no other thread does."""
        return self._returning.acquire(False)

    def break_off(self) -> None:
        """It was not returned after all."""
        self._returning.release()

    def end(self) -> None:
        """It was returned."""
        self._words.free(self._slot)
