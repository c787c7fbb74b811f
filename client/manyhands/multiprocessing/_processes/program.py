"""A program as one of its processes sees it: its root makes it, every other member is born into it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from manyhands.multiprocessing._processes.channel import Channel
from manyhands.multiprocessing._processes.printing import Printer
from manyhands_shared.coordination import identity
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.coordination.kinds import Operation
from manyhands_shared.coordination.memory import thread_fence
from manyhands_shared.errors import ManyhandsError, Refused
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Bye, Message
from manyhands_shared.protocol.messages.coordination import (
    Began,
    Ended,
    ExitAcknowledged,
    Mapped,
    MemberHello,
    Placed,
    ProcessOutput,
    Start,
)
from manyhands_shared.protocol.messages.coordination import Program as ProgramMessage

if TYPE_CHECKING:
    from manyhands.multiprocessing._objects.delegation import LockWords
    from manyhands.multiprocessing._processes.cluster import Cluster

_WELCOME_SECONDS = 30.0
#: What has segments of shared memory, in programs that have some.
_SEGMENTS = "manyhands.multiprocessing._memory.segments"
#: What has locks.
_LOCKS = "manyhands.multiprocessing._objects.semlock"
#: How long the broker may refuse a root whose agent has died: it may not know that yet.
_REFUSED_SECONDS = 5.0
#: How long a root looks for another agent when its own has died, and how often.
_RECONNECT_SECONDS, _RETRY_SECONDS = 30.0, 0.2


@cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def standard_streams() -> tuple[int, int]:
    """Return descriptors of standard output and error; of nothing in place of closed ones."""
    # Where a process was started without one, its number is that of another file by now.
    out, err = sys.__stdout__, sys.__stderr__
    return _null() if out is None else 1, _null() if err is None else 2


class Child(Protocol):
    """A process that was started here: it is told what becomes of it, on the channel's thread."""

    id: bytes
    name: str
    #: Of the process, once it has begun.
    pid: int | None

    def placed(self, node: str) -> None:
        """It will run there."""

    def refused(self, error: str) -> None:
        """It will not run."""

    def began(self, pid: int) -> None:
        """It runs."""

    def ended(self, code: int) -> None:
        """It has ended."""


class Program:
    """This process's part of its program.

    Args:
        secret: 16 bytes that travel inside pickled primitives: what knows them is of the program.
        member: this process's id.
        stream: its connection to the host agent.
        cluster: of a root: the way to the cluster.
        where: of other members: the broker's address, and the key file, as the root has them.
    """

    def __init__(
        self,
        secret: bytes,
        member: bytes,
        stream: MemberChannel,
        cluster: Cluster | None = None,
        where: tuple[str, str] = ("", ""),
    ) -> None:
        self.secret = secret
        #: The program's public id.
        self.id = identity.program_id(secret)
        self.member = member
        self.channel = Channel(member, stream, self, repeats=cluster is not None)
        self._cluster = cluster
        #: The broker's address, and the key file; empty where they are not known.
        self.where = where if cluster is None else cluster.where
        self._printer = Printer()
        self._children: dict[bytes, Child] = {}
        self._placed = threading.Event()
        self._error = ""
        #: Whether this process has said goodbye.
        self._leaving = False
        #: Until when it tries to speak by another agent; 0 while it does not.
        self._rejoin_by = 0.0
        self._refusals = 0
        self._lock_words: LockWords | None = None
        self._making_words = threading.Lock()

    @property
    def is_root(self) -> bool:
        """Whether this process began the program."""
        return self._cluster is not None

    def slots(self) -> int | None:
        """Return how many slots the cluster has; None where that is not known, on other members."""
        return None if self._cluster is None else self._cluster.slots()

    def start(
        self,
        child: Child,
        options: dict[str, Any],
        carries: bytes,
        bodies: Sequence[Payload],
        descriptors: Sequence[int],
    ) -> None:
        """Have a process started; `child` is told what becomes of it.

        Raises:
            SharedStateLost: the program is over.
        """
        self._children[child.id] = child
        self.channel.attend()
        message = Start(child.id, self.member, self.id, options, carries, list(bodies))
        try:
            self.channel.say(message, descriptors)
        except BaseException:
            self._children.pop(child.id, None)
            raise

    def lock_words(self) -> LockWords | None:
        """Return the memory for delegated locks; None where the system cannot do that.

        Raises:
            SharedStateLost: the program is over.
        """
        words = self._lock_words
        if words is None and thread_fence.can_fence():
            from manyhands.multiprocessing._objects.delegation import LockWords  # noqa: PLC0415 - of few

            with self._making_words, contextlib.suppress(OSError):
                self._lock_words = self._lock_words or LockWords(
                    self.member, self.channel.say, again=self.is_root
                )
            words = self._lock_words
        return words

    def send_signal(self, member: bytes, number: int) -> None:
        """Have a process of the program sent a signal, wherever it is."""
        self.channel.tell(Operation.SIGNAL, member, [number])

    def begin(self) -> None:
        """Of a root: register the program, and wait for the broker's word.

        Raises:
            Refused: the broker does not take it, or does not answer.
        """
        self.channel.attend()
        self.channel.say(self._introduction(), standard_streams())
        if not self._placed.wait(_WELCOME_SECONDS):
            raise Refused("program", "the broker has not answered: is it overloaded?")
        if self._error:
            raise Refused("program", self._error)

    def hello(self) -> None:
        """Of a pool's child: introduce this process to the agent."""
        key = identity.member_key(self.secret)
        shown = identity.proof(key, self.member)
        self.channel.say(MemberHello(self.id, self.member, shown, os.getpid()))

    def interrupt(self) -> None:
        """Have every process that was started here interrupted, as Ctrl-C on a terminal does."""
        for member in list(self._children):
            self.send_signal(member, signal.SIGINT)
        self.channel.flush()

    def leave(self) -> None:
        """End this process's part. A root's end is the program's end."""
        self._leaving = True
        self._return_locks()
        try:
            if self.is_root:
                self.channel.say(Bye(""))
            self.channel.flush()
        except OSError:
            return  # the program is over already
        finally:
            self.channel.close()
            if self._cluster is not None:
                self._cluster.close()

    def disown(self) -> None:
        """In a forked child: all of it is the parent's."""
        self.channel.disown()

    # On the channel's thread

    def receive(self, message: Message, descriptors: list[int]) -> None:
        """See `Owner`."""
        match message:
            case Began():
                if (child := self._children.get(message.member)) is not None:
                    child.began(message.pid)
            case Placed():
                self._place(message)
            case Ended() if message.member == self.member:
                self._lose(message.reason or "the broker has ended the program")
            case Ended():
                self._end(message)
            case Mapped():
                _segments().mapped(self, message, descriptors)
                return
            case ProcessOutput():
                if (receipt := self._printer.receive(message)) is not None:
                    self.channel.say(receipt)
        for descriptor in descriptors:
            os.close(descriptor)

    def deadline(self) -> float | None:
        """See `Owner`."""
        return self._printer.deadline()

    def tick(self) -> None:
        """See `Owner`."""
        self._printer.tick()
        if (segments := _loaded(_SEGMENTS)) is not None:
            segments.tell_unmapped(self)

    def reconnect(self) -> MemberChannel | None:
        """See `Owner`: a root goes on with another agent; other members end with theirs."""
        if self._cluster is None:
            return None
        error: Exception = TimeoutError("no other takes its place")
        self._rejoin_by = self._rejoin_by or time.monotonic() + _RECONNECT_SECONDS
        while not self._leaving and time.monotonic() < self._rejoin_by:
            try:
                key = identity.member_key(self.secret)
                stream = self._cluster.connect(self.id, self.member, key)
                stream.send(self._introduction(), standard_streams())
                if (segments := _loaded(_SEGMENTS)) is not None:
                    for message, along in segments.again(self):
                        stream.send(message, along)
                if (words := self._lock_words) is not None:
                    stream.send(words.announcement, (words.descriptor,))
            except (ManyhandsError, OSError, TimeoutError) as failed:
                # The broker may still have the dead one in its books.
                error = failed
                time.sleep(_RETRY_SECONDS)
            else:
                return stream
        if not self._leaving:
            self._lose(f"the host agent has ended: {error}")
        return None

    def _try_again(self, error: str) -> None:
        """The broker has not let go of the agent before: introduce this process again."""
        if self._refusals * _RETRY_SECONDS >= _REFUSED_SECONDS:
            self._lose(error)
            return
        self._refusals += 1
        time.sleep(_RETRY_SECONDS)
        self.channel.say(self._introduction(), standard_streams())

    def _give_up_lost(self) -> None:
        """End the processes that the broker does not know: it was started anew, without its log."""
        try:
            known = set() if self._cluster is None else self._cluster.members()
        except (ManyhandsError, TimeoutError) as error:
            self._lose(str(error))
            return
        for name, child in list(self._children.items()):
            # What has not begun is asked for again.
            if child.pid is not None and name.hex() not in known:
                del self._children[name]
                self._lost(child, "lost with the broker, which was started anew without its log")

    def _return_locks(self) -> None:
        """The agent is another, or the program is over: no lock is delegated any more."""
        if (locks := _loaded(_LOCKS)) is not None:
            locks.return_all()

    def _lost(self, child: Child, reason: str) -> None:
        """A process that ran is gone, and no host can say how it ended."""
        print(f"manyhands: {child.name}: {reason}", file=sys.stderr)
        child.ended(-signal.SIGKILL)

    def _lose(self, reason: str) -> None:
        """The program is over, though this process is not."""
        self._error = reason
        self._placed.set()
        self.channel.end(reason)
        self._return_locks()
        if not self._leaving:
            print(f"manyhands: the program has ended: {reason}", file=sys.stderr)
        children, self._children = self._children, {}
        for child in children.values():
            child.ended(-signal.SIGKILL)

    def _introduction(self) -> ProgramMessage:
        from manyhands_shared import shm  # noqa: PLC0415 - of a root alone

        name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""  # noqa: PTH119
        return ProgramMessage(
            self.id,
            self.member,
            shm.host_id(),
            identity.member_key(self.secret),
            # One that the broker has ended meanwhile must not begin a second time.
            {"pid": os.getpid(), "name": name[:200], "goes_on": self._placed.is_set()},
        )

    def _place(self, message: Placed) -> None:
        child = self._children.get(message.member)
        if child is not None:
            if message.error:
                del self._children[message.member]
                if child.pid is None:
                    child.refused(message.error)
                else:
                    self._lost(child, message.error)
            else:
                child.placed(message.node)
        elif message.member == self.member and self._cluster is None:
            self._lose(message.error)
        elif message.member == self.member:
            self._error = message.error
            self._placed.set()
            if self._rejoin_by and message.error:
                self._try_again(message.error)
            elif self._rejoin_by:
                self._rejoin_by, self._refusals = 0.0, 0
                self._return_locks()
                self._give_up_lost()

    def _end(self, message: Ended) -> None:
        self.channel.say(ExitAcknowledged(message.member))
        if self.is_root:
            self._printer.finish(message.member)
        child = self._children.pop(message.member, None)
        if child is not None:
            if message.reason:
                print(f"manyhands: {child.name}: {message.reason}", file=sys.stderr)
            child.ended(message.code)


def _loaded(name: str) -> Any:
    """Return a module that this process uses, or None. One that is being loaded is waited for."""
    return import_module(name) if name in sys.modules else None


def _segments() -> Any:
    return import_module(_SEGMENTS)
