"""Objects at the broker, stepped: members ask, a log is kept, the broker is killed and reads it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from harness.worlds.object_log import ObjectLog
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.model import NO_PARENT, Agent, Member, Phase, Program
from manyhands_broker.coordination.objects.sync_objects import SyncObjects
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.core.effects import Send
from manyhands_broker.core.model.job import Job
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages.coordination import (
    ItemsTaken,
    ProcessOutput,
    Request,
    Response,
    Withdraw,
)

PROGRAM, ROOT = b"P" * 16, b"R" * 16


class CoordinationWorld:
    """One program, its members, and the objects that they share.

    Each step is a drain: what it writes is in `log` before its answers are in `responses`.
    """

    def __init__(
        self, members: Sequence[bytes] = (), limits: CoordinationLimits | None = None
    ) -> None:
        self.limits = limits or CoordinationLimits()
        self.now = 100.0
        self.log = ObjectLog()
        self.responses: dict[tuple[bytes, int], list[Response]] = {}
        self.notes: list[str] = []
        self.numbers: dict[bytes, int] = {}
        self.settled: dict[bytes, int] = {}
        self.living: set[bytes] = {ROOT, *members}
        self._begin()

    def _begin(self) -> None:
        self.state = CoordinationState(self.limits, b"B" * 16, self.now, 0.0, _fail)
        program = Program(PROGRAM, ROOT, "host", bytes(32))
        self.state.programs[PROGRAM] = program
        agent = Agent(b"A" * 16, "host", "node")
        agent.peer = b"agent"
        self.members: dict[bytes, Member] = {}
        for member_id in sorted(self.living):
            member = Member(member_id, program, NO_PARENT)
            member.phase, member.agent, member.name = Phase.RUNNING, agent, chr(member_id[0])
            self.members[member_id] = member
            self.state.members[member_id] = program.members[member_id] = member
        self.objects = SyncObjects(self.state, Memory(self.state))

    def kill_broker(self) -> None:
        """Forget everything, and read the log back."""
        self._begin()
        for (kind, key), payload in self.log.items():
            self.objects.restore(kind, key, msgpack.unpackb(payload, strict_map_key=False))
        self.objects.restored(self.now)
        self._drain()

    def create(self, kind: Kind, *facts: int, key: bytes = b"k" * 16) -> bytes:
        """Make an object; return its key."""
        asked = self.ask(ROOT, Operation.CREATE, key, int(kind), list(facts), "program.py:1")
        assert self.outcome(asked) is Outcome.OK
        return key

    def ask(
        self,
        member: bytes,
        operation: int,
        key: bytes,
        *arguments: Any,
        bodies: Sequence[Payload] = (),
        quiet: bool = False,
    ) -> tuple[bytes, int]:
        """Ask for an operation; return the request's name."""
        number = self.numbers[member] = self.numbers.get(member, 0) + 1
        settled = self.settled.get(member, 0)
        self.send(
            Request(member, number, settled, key, operation, quiet, list(arguments), list(bodies))
        )
        return member, number

    def send(self, message: Request | Withdraw | ItemsTaken) -> None:
        """Have the broker hear a message of a member."""
        member = self.members[message.member]
        if isinstance(message, Request):
            self.objects.request(member, message, self.now)
        elif isinstance(message, Withdraw):
            self.objects.withdraw(member, message, self.now)
        else:
            self.objects.items_taken(member, message, self.now)
        self._drain()

    def outcome(self, asked: tuple[bytes, int]) -> Outcome | None:
        """Return how a request ended; `None` while it waits."""
        found = self.responses.get(asked)
        return Outcome(found[-1].outcome) if found else None

    def end(self, member: bytes, *, by_signal: bool = False, host_lost: bool = False) -> None:
        """End a member."""
        self.living.discard(member)
        one = self.members[member]
        one.phase, one.by_signal, one.host_lost = Phase.ENDED, by_signal, host_lost
        self.objects.member_ended(one, self.now)
        self._drain()
        del self.state.members[member], one.program.members[member], self.members[member]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (due := self.state.timers.next) is not None and due <= until:
            self.now = self.state.now = max(self.now, due)
            self.state.timers.run(self.now)
            self._drain()
        self.now = self.state.now = until

    def end_program(self) -> None:
        """End the program."""
        self.objects.program_ended(self.state.programs[PROGRAM])
        self._drain()

    def _drain(self) -> None:
        self.objects.flush()
        effects, self.state.effects = self.state.effects, []
        self.log.write(effects)
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Response):
                message = effect.message
                self.responses.setdefault((message.member, message.number), []).append(message)
            elif isinstance(effect, Send) and isinstance(effect.message, ProcessOutput):
                self.notes.append(b"".join(map(bytes, effect.message.bodies)).decode())
        self.objects.validate()


def _fail(error: Exception, job: Job | None) -> None:
    raise error
