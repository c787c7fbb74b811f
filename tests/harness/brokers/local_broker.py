"""The objects of a broker in this process, and channels to them: what members share, without agents.

A channel is used as that of a real member: `manyhands.multiprocessing._processes.channel.Channel`.
Each thread may be another member. The broker may be killed at any time: it comes back from its log,
and goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgpack

from harness.worlds.object_log import ObjectLog
from manyhands.multiprocessing._processes import membership
from manyhands.multiprocessing._processes.channel import KEEPER_SECONDS
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.model import NO_PARENT, Agent, Member, Phase, Program
from manyhands_broker.coordination.objects.sync_objects import SyncObjects
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.core.effects import Send
from manyhands_broker.core.model.job import Job
from manyhands_shared.coordination.identity import program_id
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages.coordination import (
    ItemsTaken,
    ProcessOutput,
    Request,
    Response,
    Withdraw,
)

_ROOT = b"root" + bytes(12)


class LocalBroker:
    """One program's objects. All that happens, happens under `changed`."""

    def __init__(self) -> None:
        self.secret = os.urandom(16)
        self.changed = threading.Condition()
        self.log = ObjectLog()
        self.notes: list[str] = []
        self.members: dict[bytes, Member] = {}
        #: Responses that no member has taken yet.
        self.arrived: dict[tuple[bytes, int], Response] = {}
        self._count = 0
        self._begin()
        self.root = self.member("root")

    def _begin(self) -> None:
        now = time.monotonic()
        self.state = CoordinationState(CoordinationLimits(), b"B" * 16, now, 0.0, _fail)
        self._program = Program(program_id(self.secret), _ROOT, "host", bytes(32))
        self.state.programs[self._program.id] = self._program
        self._agent = Agent(b"A" * 16, "host", "node")
        self._agent.peer = b"agent"
        for member in list(self.members.values()):
            self._enter(member.id, member.name)
        self.objects = SyncObjects(self.state, Memory(self.state))

    def _enter(self, member_id: bytes, name: str) -> Member:
        member = Member(member_id, self._program, NO_PARENT)
        member.phase, member.agent, member.name = Phase.RUNNING, self._agent, name
        self.members[member_id] = self.state.members[member_id] = member
        self._program.members[member_id] = member
        return member

    def member(self, name: str) -> LocalChannel:
        """Return a channel of a new member."""
        with self.changed:
            self._count += 1
            member = self._enter(_ROOT if name == "root" else b"%016d" % self._count, name)
        return LocalChannel(self, member.id)

    def end(
        self, channel: LocalChannel, *, by_signal: bool = True, host_lost: bool = False
    ) -> None:
        """End a member. Its threads that wait get an exception."""
        with self.changed:
            member = self.members.pop(channel.member)
            member.phase, member.by_signal, member.host_lost = Phase.ENDED, by_signal, host_lost
            self.objects.member_ended(member, self._now())
            self.drain()
            del self.state.members[member.id], self._program.members[member.id]

    def kill(self) -> None:
        """Kill the broker: all that it had told, its log has."""
        with self.changed:
            self._begin()
            for (kind, key), payload in self.log.items():
                self.objects.restore(kind, key, msgpack.unpackb(payload, strict_map_key=False))
            self.objects.restored(self._now())
            self.drain()

    def hear(self, message: Request | Withdraw | ItemsTaken) -> None:
        """Have the broker hear a message of a member; call it with `changed`."""
        member, now = self.members[message.member], self._now()
        if isinstance(message, Request):
            self.objects.request(member, message, now)
        elif isinstance(message, Withdraw):
            self.objects.withdraw(member, message, now)
        else:
            self.objects.items_taken(member, message, now)
        self.drain()

    def tick(self) -> float | None:
        """Run timers; return when the next is due. Call it with `changed`."""
        self.state.timers.run(self._now())
        self.drain()
        return self.state.timers.next

    def _now(self) -> float:
        self.state.now = time.monotonic()
        return self.state.now

    def drain(self) -> None:
        """Write what has changed, then let the answers out."""
        self.objects.flush()
        effects, self.state.effects = self.state.effects, []
        self.log.write(effects)
        for effect in effects:
            message = effect.message if isinstance(effect, Send) else None
            if isinstance(message, Response):
                self.arrived[message.member, message.number] = message
            elif isinstance(message, ProcessOutput):
                self.notes.append(b"".join(map(bytes, message.bodies)).decode())
        self.changed.notify_all()


class MemberEnded(Exception):
    """The member whose thread waits was killed."""


class LocalChannel:
    """A member's way to the objects."""

    def __init__(self, broker: LocalBroker, member: bytes) -> None:
        self.broker = broker
        self.member = member
        self._number = 0
        self._settled = 0

    def request(
        self,
        operation: int,
        key: bytes,
        arguments: Any,
        bodies: Sequence[Payload] = (),
        *,
        timeout: float | None = None,
        keeper_decides: bool = False,
    ) -> Response | None:
        """Ask, and wait for the answer."""
        broker = self.broker
        until = None if timeout is None else time.monotonic() + timeout
        if until is not None and keeper_decides:
            until += KEEPER_SECONDS
        with broker.changed:
            number = self._send(operation, key, arguments, bodies, quiet=False)
            try:
                return self._await(number, until, key)
            except BaseException:
                self._withdraw(number, key)
                raise

    def _await(self, number: int, until: float | None, key: bytes) -> Response | None:
        broker = self.broker
        while (response := broker.arrived.pop((self.member, number), None)) is None:
            if self.member not in broker.members:
                raise MemberEnded
            now = time.monotonic()
            if until is not None and now >= until:
                self._withdraw(number, key)
                return None
            due = broker.tick()
            ends = [one - now for one in (until, due) if one is not None]
            if (self.member, number) not in broker.arrived:
                broker.changed.wait(max(0.0, min(ends)) if ends else None)
        self._settled = number
        if response.bodies:
            broker.hear(ItemsTaken(self.member, [number]))
        return response

    def _withdraw(self, number: int, key: bytes) -> None:
        if self.member in self.broker.members:
            self.broker.hear(Withdraw(self.member, number, key))
        self.broker.arrived.pop((self.member, number), None)

    def tell(
        self, operation: int, key: bytes, arguments: Any, bodies: Sequence[Payload] = ()
    ) -> None:
        """Ask for what is not answered."""
        with self.broker.changed:
            self._send(operation, key, arguments, bodies, quiet=True)

    def _send(
        self, operation: int, key: bytes, arguments: Any, bodies: Sequence[Payload], *, quiet: bool
    ) -> int:
        if self.member not in self.broker.members:
            raise MemberEnded
        self._number += 1
        request = Request(
            self.member,
            self._number,
            self._settled,
            key,
            int(operation),
            quiet,
            arguments,
            list(bodies),
        )
        self.broker.hear(request)
        return request.number


class _LocalProgram(threading.local):
    """What `membership.current()` returns: to each thread its own member's.

    Threads of its objects may go on behind its end. They find no program then, and begin none.
    """

    def __init__(self, broker: LocalBroker) -> None:
        self.channel = broker.root
        self.secret = broker.secret

    def lock_words(self) -> None:
        """Without an agent no lock is delegated."""

    def leave(self) -> None:
        """There is nothing to end."""


class Members:
    """The members of a program whose objects are in this process; each thread may be one."""

    def __init__(self) -> None:
        self.broker = LocalBroker()
        self.program = _LocalProgram(self.broker)

    @contextmanager
    def member(self, name: str) -> Iterator[LocalChannel]:
        """Let this thread be another member."""
        before = self.program.channel
        self.program.channel = self.broker.member(name)
        try:
            yield self.program.channel
        finally:
            self.program.channel = before


@contextmanager
def local_members() -> Iterator[Members]:
    """Let this process's objects be kept in this process."""
    members = Members()
    membership.enter(members.program)  # type: ignore[arg-type]
    try:
        yield members
    finally:
        membership.leave()


def _fail(error: Exception, job: Job | None) -> None:
    raise error
