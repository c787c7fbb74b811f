"""Segments of shared memory as one process sees them: made here, or opened by their key.

A segment is real memory, shared by all processes of a host. Making one connects nothing. When it is
pickled for the first time the host agent is told and gets its descriptor. A process on any host opens it
by its key: the agent there has the memory, or gets it from the host that has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import membership
from manyhands.multiprocessing._processes.program import Program
from manyhands.multiprocessing._processes.unsaid import taken
from manyhands_shared.coordination import identity, pool_child
from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.protocol.messages.coordination import Map, Mapped, Pin, Unmap
from manyhands_shared.shm.mapping import map_segment
from manyhands_shared.shm.segment import new_file

#: How often a process that waits for a segment looks whether the program is over.
_LOOK_SECONDS = 1.0


class Segment:
    """Memory that processes of this program share.

    Args:
        key: 16 bytes, by which other processes know it.
        size: its bytes.
        shape: where its items begin; see `coordination.memory.shape`.
        descriptor: of the memory; it belongs to the segment from now on.
        secret: of the program whose agent has it; None if none has.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(
        self, key: bytes, size: int, shape: Any, descriptor: int, secret: bytes | None = None
    ) -> None:
        self.key, self.size, self.shape = key, size, shape
        #: Lists, for the finalizer looks at them.
        self._descriptor, self._secret = [descriptor], [secret]
        self._telling = threading.Lock()
        self._pinned = False
        weakref.finalize(
            self, _let_go, key, self._descriptor, self._secret, os.getpid()
        ).atexit = False
        memory = map_segment(descriptor, size, 0, shared=True, writable=True)
        self.view = memoryview(memory)
        _open[key] = self

    @property
    def descriptor(self) -> int:
        """Its descriptor; -1 where it is not needed any more."""
        return self._descriptor[0]

    @property
    def secret(self) -> bytes | None:
        """Of the program whose host agent has it; None where no agent has."""
        return self._secret[0]

    def tell(self) -> None:
        """Have the host agent know it.

        Raises:
            ConfigError, BrokerUnreachable, NotAuthorised, Refused: the cluster does not take it.
            SharedStateLost: the program is over.
        """
        if self.secret is not None:
            return
        program = membership.current()
        with self._telling:
            if self.secret is None:
                program.channel.attend()
                program.channel.say(self.announcement(program.id), (self.descriptor,))
                self._secret[0] = program.secret
                if not program.is_root:
                    self.close_descriptor()

    def announcement(self, program: bytes) -> Map:
        """Return what the agent is told."""
        return Map(program, self.key, 0, self.size, self.shape)

    def pass_on(self) -> bytes:
        """The segment is being pickled: have it there for the process that gets it.

        A process that is about to start opens it before its starter lets go of it. For what else may
        have it some day it stays until the program ends.

        Returns:
            The secret of its program.

        Raises:
            as `tell` does.
        """
        self.tell()
        assert self.secret is not None
        program = membership.of(self.secret)
        if not reduction.hold(self) and not self._pinned:
            program.channel.say(Pin(program.id, self.key, 0))
            self._pinned = True
        return self.secret

    def close_descriptor(self) -> None:
        """Do without the descriptor from now on."""
        descriptor, self._descriptor[0] = self._descriptor[0], -1
        os.close(descriptor)


class _Opening:
    """A segment that threads of this process wait for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: Mapped | None = None
        self.segment: Segment | None = None


#: Segments of this process by their key.
_open: weakref.WeakValueDictionary[bytes, Segment] = weakref.WeakValueDictionary()
_openings: dict[bytes, _Opening] = {}
_lock = threading.Lock()
#: Segments that nothing here refers to any more, and the secrets of their programs. A finalizer may run
#: in the middle of anything, so it says nothing itself.
_unreferenced: deque[tuple[bytes, bytes]] = deque()


def make(size: int, shape: Any) -> Segment:
    """Return a new segment of zeros.

    Raises:
        OSError: the system does not give the memory.
    """
    return Segment(identity.new_id(), size, shape, new_file(size))


def sync_writes() -> None:
    """Have what this process wrote to shared memory leave its host, and bring what others wrote.

    Between processes locks and queues do that. What a pool's tasks and results carry goes another way.
    """
    with contextlib.suppress(SharedStateLost):
        program = membership.begun()
        is_there = any(one.secret == program.secret for one in list(_open.values()))
        if is_there and program.channel.may_wait:
            program.channel.request(Operation.SYNC, identity.NO_ID, None)


def find(program: Program, key: bytes, what: str) -> Segment:
    """Return the segment of a key; wait until it is on this host.

    Args:
        program: it is of.
        key: the segment's.
        what: it holds, for people.

    Raises:
        SharedStateLost: it was lost with its host, or the program is over.
        ValueError: the program has no such segment any more.
        OSError: there is no room for it (`ENOMEM`).
    """
    segment = _open.get(key)
    if segment is not None:
        return segment
    with _lock:
        segment = _open.get(key)
        if segment is not None:
            return segment
        opening = _openings.get(key)
        if opening is None:
            opening = _openings[key] = _Opening()
            tell_unmapped(program)
            program.channel.attend()
            program.channel.say(Map(program.id, key, 0, 0, None))
    while not opening.done.wait(_LOOK_SECONDS):
        if program.channel.over:
            raise SharedStateLost(f"{what} was lost: {program.channel.why_over}")
    answer = opening.answer
    assert answer is not None
    if opening.segment is not None:
        return opening.segment
    if answer.outcome == Outcome.NO_ROOM:
        raise OSError(errno.ENOMEM, answer.reason)
    if answer.outcome == Outcome.NONE:
        raise ValueError(f"{what} is not there any more: its program has let go of it")
    raise SharedStateLost(f"{what} was lost: {answer.reason or 'its host is gone'}")


# On the channel's thread


def mapped(program: Program, answer: Mapped, descriptors: list[int]) -> None:
    """Take what the agent answers; it takes the descriptors."""
    with _lock:
        opening = _openings.pop(answer.segment, None)
    if opening is None or answer.outcome != Outcome.OK or not descriptors:
        for descriptor in descriptors:
            os.close(descriptor)
    else:
        try:
            segment = Segment(
                answer.segment, answer.size, answer.shape, descriptors[0], program.secret
            )
            if not program.is_root:
                segment.close_descriptor()
            opening.segment = segment
            if pool_child.agent_address:
                pool_child.sync_writes = sync_writes
        except OSError as error:
            reason = f"this process cannot map it: {error.strerror}"
            answer = Mapped(
                answer.program, answer.segment, Outcome.NO_ROOM, answer.size, None, reason
            )
    if opening is not None:
        opening.answer = answer
        opening.done.set()


def tell_unmapped(program: Program) -> None:
    """Tell the agent which segments of its program this process has let go of."""
    for key, secret in taken(_unreferenced):
        if secret != program.secret:
            if not membership.is_left(secret):
                _unreferenced.append((key, secret))
        elif key not in _open and not program.channel.over:
            program.channel.say(Unmap(program.id, key, 0))


def again(program: Program) -> Iterator[tuple[Map, tuple[int, ...]]]:
    """Yield what another agent is to be told, each with the descriptor that goes with it."""
    for segment in list(_open.values()):
        if segment.secret == program.secret and segment.descriptor >= 0:
            yield segment.announcement(program.id), (segment.descriptor,)
    for key in list(_openings):
        yield Map(program.id, key, 0, 0, None), ()


def _let_go(key: bytes, descriptor: list[int], secret: list[bytes | None], pid: int) -> None:
    if os.getpid() != pid:
        return
    if descriptor[0] >= 0:
        os.close(descriptor[0])
    if (of := secret[0]) is not None:
        _unreferenced.append((key, of))
        membership.poke(of)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent's other threads may have held it
    _lock = threading.Lock()
    _openings.clear()
    _unreferenced.clear()


os.register_at_fork(after_in_child=_after_fork)
