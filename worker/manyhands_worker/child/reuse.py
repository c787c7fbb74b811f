"""Whether a child may serve another function's tasks, or is to be replaced.

It looks at its condition behind a batch with a task that failed, once in a while, and always before
the tasks of another function. What an initializer has changed is right for tasks with that
initializer, and for no others.
"""

from __future__ import annotations

import os
import time

from manyhands_shared.payloads.wrappers import Setup
from manyhands_worker.host.memory_use import private_bytes
from manyhands_worker.host.process_snapshot import Condition

#: The child looks at itself at most so often, while all is well and the function stays the same.
_CHECK_NS = 100_000_000
#: A child that fails tasks of this number of functions in a row is replaced, if the process may be the
#: cause.
_FUNCTIONS = 3
#: What a process raises that lacks modules, files, rights, memory or descriptors.
_OF_THE_PROCESS = (OSError, ImportError, MemoryError, SystemError)


class Unfit(BaseException):
    """The task is for another child: an initializer has made this one its own."""


def may_be_the_process(error: BaseException) -> bool:
    """Whether the state of the process may be why a task failed, rather than the task itself."""
    if type(error) is RuntimeError and len(error.args) == 1 and type(error.args[0]) is str:
        return "start new thread" in error.args[0]
    return isinstance(error, _OF_THE_PROCESS)


class Fitness:
    """What a child knows of its own state.

    Args:
        condition: how it was before its first task.
    """

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        #: Why it is to be replaced, in words that follow on "a task"; empty: it is not.
        self.words = ""
        #: The function whose tasks ran last.
        self.last = b""
        #: The key of the initializer that has changed this process; empty: none has.
        self.tied = b""
        self._failing: set[bytes] = set()
        self._checked_at = time.monotonic_ns()
        self._unseen = False

    def has_room(self, memory: int, digest: bytes) -> bool:
        """Whether tasks of a function with this limit of bytes may run.

        What tasks of others have left counts as theirs, and would end them. What those of the same
        function keep is for the next ones. A child that has run none can do no better.
        """
        foreign = self.last not in (b"", digest)
        if memory and foreign and private_bytes([os.getpid()]) > memory // 2:
            self.words = self.words or "needed memory that its child had in use"
        return not self.words

    def before(self, digest: bytes) -> bool:
        """Whether tasks of a function may be run."""
        if digest != self.last and not self.words:
            if self._unseen:
                self._look()
            self.last = digest
        return not self.words

    def prepared(self, key: bytes) -> None:
        """The initializer with this key has run."""
        if self._condition.changed():
            self.tied = key
            self._condition.renew()

    def admit(self, function: object) -> None:
        """See that a function has the initializer that has changed this process.

        Raises:
            Unfit: it has not.
        """
        if not (isinstance(function, Setup) and function.key == self.tied):
            self.words = "needed an initializer that changed the process"
            raise Unfit

    def after(self, digest: bytes, ran: int, failed: int, now: int) -> bool:
        """Whether all is well behind a batch, of whose `ran` tasks the process may have failed some."""
        if ran > failed:
            self._failing.clear()
        if failed:
            self._failing.add(digest)
        if failed or now - self._checked_at > _CHECK_NS:
            self._look()
        else:
            self._unseen = True
        if len(self._failing) >= _FUNCTIONS and not self.words:
            self.words = f"failed, the last of {_FUNCTIONS} functions whose tasks failed in a row"
        return not self.words

    def _look(self) -> None:
        self._checked_at = time.monotonic_ns()
        self._unseen = False
        self.words = self._condition.changed()
