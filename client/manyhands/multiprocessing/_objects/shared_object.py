"""An object that processes share, as one process sees it: its key, its making, what is asked of it.

Nothing is connected until the first operation, or the first pickling. Then the object is made where its
state is kept, which is the broker. One that was never pickled is let go of with its last reference.
"""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from types import FrameType
from typing import Any, TypeVar

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import membership
from manyhands.multiprocessing._processes.channel import Channel
from manyhands.multiprocessing._processes.program import Program
from manyhands.multiprocessing._processes.unsaid import taken
from manyhands_shared.coordination.kinds import KEY_BYTES, MADE_CHARS, Kind, Operation, Outcome
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages.coordination import Response

#: A wait with a time is ended by the keeper. Should its word be late, the caller goes on without it.
_LATE_SECONDS = 0.04
_PACKAGE = "manyhands.multiprocessing."
_C_INTS = 1 << 31

#: Keys of objects that nothing refers to any more, and the secrets of their programs.
#: A finalizer may run in the middle of an operation, so it says nothing itself.
_unreferenced: deque[tuple[bytes, bytes]] = deque()


class Known(IntEnum):
    """How far an object is known."""

    HERE = 0
    KEEPER = 1
    #: It was pickled, or unpickled: other processes may know it.
    OTHERS = 2


def time_limit(timeout: float | None) -> float | None:
    """Return a time-out as the keeper takes it: not below zero, and none where it would never come.

    Raises:
        TypeError: it is no number.
    """
    if timeout is None:
        return None
    # `float` would take text as well.
    seconds = max(0.0, math.ldexp(timeout, 0))
    return None if seconds == math.inf else seconds


def c_int(value: int) -> int:
    """Return a number as the standard library's semaphores take it, NumPy's among them.

    Raises:
        TypeError: it is no whole number.
        OverflowError: it is too large.
    """
    number = operator.index(value)
    if not -_C_INTS <= number < _C_INTS:
        raise OverflowError("Python int too large to convert to C int")
    # A `bool` would not be a number to the keeper.
    return int(number)


class SharedObject:
    """One object of this program.

    Args:
        kind: what it is.
        facts: what the keeper must know to make it; see `rules.creation`.
        label: what users call it.
        key: of an object that another process has made.
    """

    def __init__(
        self, kind: Kind, facts: Sequence[int], label: str, key: bytes | None = None
    ) -> None:
        self.key = key or os.urandom(KEY_BYTES)
        self._object_kind = kind
        self._facts = list(facts)
        self._label = label
        self._made = "" if key else _place()
        #: Lists, for the finalizer looks at them: how far it is known; the secret of its program then.
        self._known = [Known.HERE if key is None else Known.OTHERS]
        self._secret: list[bytes] = []
        weakref.finalize(self, _let_go, self.key, self._known, self._secret).atexit = False

    @property
    def secret(self) -> bytes | None:
        """Of its program, once that is known."""
        return self._secret[0] if self._secret else None

    def enter(self, secret: bytes) -> None:
        """It is an object of the program of this secret."""
        self._secret[:] = [secret]
        _objects[self.key] = self

    def request(
        self,
        operation: Operation,
        *arguments: Any,
        bodies: Sequence[Payload] = (),
        seconds: float | None = None,
        keeper_decides: bool = False,
    ) -> Response | None:
        """Ask for an operation; return the answer, or `None` if `seconds` were over before it came.

        With `keeper_decides` there is always an answer, as others must agree with it.

        Raises:
            SharedStateLost: the object's keeper lost it, or cannot be reached.
            ValueError: the program has no such object any more.
            OSError: there is no room for it (`ENOMEM`).
        """
        channel = self._channel()
        if seconds is not None and not keeper_decides:
            seconds += _LATE_SECONDS
        try:
            response = channel.request(
                operation,
                self.key,
                list(arguments),
                bodies,
                timeout=seconds,
                keeper_decides=keeper_decides,
            )
        except SharedStateLost as error:
            raise self._lost(str(error)) from None
        if response is None:
            if keeper_decides:
                raise self._lost("the broker has not answered")
            return None
        if Outcome.GONE <= response.outcome < Outcome.AGAIN:
            self._refuse(Outcome(response.outcome))
        return response

    def tell(self, operation: Operation, *arguments: Any, bodies: Sequence[Payload] = ()) -> None:
        """Have an operation done that is not answered.

        Raises:
            SharedStateLost: the object's keeper cannot be reached.
        """
        channel = self._channel()
        try:
            channel.tell(operation, self.key, list(arguments), bodies)
        except SharedStateLost as error:
            raise self._lost(str(error)) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled, (type(self), self.pickled())

    def pickled(self) -> State:
        """Return what makes `unpickled` the same object in another process of this program."""
        self._channel()
        self._known[0] = Known.OTHERS
        reduction.carry(self.key)
        assert self.secret is not None
        return int(self._object_kind), self._facts, self._label, self.key, self.secret

    def program(self) -> Program:
        """Return its program, or this process's if it is not known yet.

        Raises:
            SharedStateLost: that has ended.
        """
        try:
            return membership.of(self.secret)
        except SharedStateLost as error:
            raise self._lost(str(error)) from None

    def check_program(self) -> None:
        """See that its program has not ended, before something is pickled for it in another one.

        Raises:
            SharedStateLost: it has.
        """
        if self._secret:
            self.program()

    def _channel(self) -> Channel:
        """Return the way to the keeper of its state, which knows it then: at present the broker."""
        program = self.program()
        _discard()
        if self._known[0] == Known.HERE:
            self._create(program)
        return program.channel

    def _create(self, program: Program) -> None:
        """Make it at its keeper. Another thread, or a signal's handler, may do so too."""
        try:
            arguments = [int(self._object_kind), self._facts, self._made]
            response = program.channel.request(Operation.CREATE, self.key, arguments)
        except SharedStateLost as error:
            raise self._lost(str(error)) from None
        if response is not None and response.outcome != Outcome.OK:
            self._refuse(Outcome(response.outcome))
        if self._known[0] == Known.HERE:
            self.enter(program.secret)
            self._known[0] = Known.KEEPER

    def _refuse(self, outcome: Outcome) -> None:
        """Raise what an answer says that is no answer."""
        if outcome is Outcome.GONE:
            raise self._lost("the broker that kept it has lost its state")
        if outcome is Outcome.NO_ROOM:
            text = (
                f"no room for a {self._label}: its program has too many shared objects, or the broker"
                " too many bytes of them; raise --coordination-bytes at the broker"
            )
            raise OSError(errno.ENOMEM, text)
        raise ValueError(f"this {self._label} is not there any more: its program has let go of it")

    def _lost(self, why: str) -> SharedStateLost:
        return SharedStateLost(f"this {self._label} was lost: {why}")


#: Kind, facts, label, key, secret of the program.
State = tuple[int, list[int], str, bytes, bytes]
#: Objects of this process by key, once their keeper has them: what it unpickles again is the same here.
_objects: weakref.WeakValueDictionary[bytes, SharedObject] = weakref.WeakValueDictionary()
_unpickling = threading.RLock()
Made = TypeVar("Made", bound=SharedObject)


def known_objects() -> list[SharedObject]:
    """Return all objects of this process that their keeper has."""
    return list(_objects.values())


def unpickled(made: type[Made], state: State) -> Made:
    """Return an object that a process of this program has pickled.

    Raises:
        SharedStateLost: it is of a program that this process has left.
        ValueError: it is of another program.
    """
    kind, facts, label, key, secret = state
    membership.belong(secret, label)
    # Another thread may unpickle it too: no two are made, and none is seen before it is whole.
    with _unpickling:
        known = _objects.get(key)
        if isinstance(known, made):
            return known
        loaded = made(Kind(kind), facts, label, key)
        # A finalizer or a signal's handler may have done the same meanwhile.
        known = _objects.get(key)
        if isinstance(known, made):
            return known
        loaded.enter(secret)
        return loaded


def _let_go(key: bytes, known: list[Known], secret: list[bytes]) -> None:
    if known[0] == Known.KEEPER:
        _unreferenced.append((key, secret[0]))


def _discard() -> None:
    """Let the keepers of what nothing refers to any more forget it."""
    for key, secret in taken(_unreferenced):
        with contextlib.suppress(SharedStateLost):
            membership.of(secret).channel.tell(Operation.DISCARD, key, [])


def _place() -> str:
    """Return the file and line outside of this package where an object is being made."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"[-MADE_CHARS:]


def _after_fork() -> None:
    global _unpickling  # noqa: PLW0603 - another thread of the parent may have held it
    _unpickling = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
