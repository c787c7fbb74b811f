"""Everything the coordinator knows, in one place that its parts share, and what it wants done."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from manyhands_broker.coordination.effects import Effect, Write
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.model import Agent, Member, Program
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.core.effects import Forget, Say, Send
from manyhands_broker.core.state.timers import OnFailure, Timers
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import NOTE_AT, ProcessOutput, Response


class CoordinationState:
    """Programs, members, agents; and the effects of the event at hand."""

    def __init__(
        self,
        limits: CoordinationLimits,
        broker_id: bytes,
        now: float,
        epoch: float,
        failed: OnFailure,
    ) -> None:
        self.limits = limits
        #: What to add to `now` for the wall clock's time; for people to read, never to decide by.
        self.epoch = epoch
        self.broker_id = broker_id
        #: The time of the event at hand.
        self.now = now
        #: Since when agents of an earlier life can come back; a stall gives them as much more.
        self.started = now
        self.programs: dict[bytes, Program] = {}
        #: How many there are of each public key.
        self.programs_by_key: Counter[str] = Counter()
        self.members: dict[bytes, Member] = {}
        #: Agents by id and by link; those of nodes by host, for a host has one.
        self.agents: dict[bytes, Agent] = {}
        self.agent_of: dict[bytes, Agent] = {}
        self.hosting: dict[str, Agent] = {}
        self.agents_by_key: Counter[str] = Counter()
        #: Members that are placed on a host whose agent has not come yet.
        self.awaiting: dict[str, dict[Member, None]] = {}
        #: Which two agents each stream joins.
        self.streams: dict[bytes, tuple[Agent, Agent]] = {}
        #: Bytes that count against `CoordinationLimits.coordination_bytes`.
        self.used_bytes = 0
        #: The same of what members are started with that have not begun.
        self.start_bytes = 0
        #: Bytes of shared segments, which count likewise.
        self.segment_bytes = 0
        #: Brings what a host lacks of shared memory, before it is told what may depend on it.
        self.before_telling: Callable[[Agent, Program], None] = lambda _agent, _program: None
        self.counters: Counter[str] = Counter()
        #: For numbers that agents cannot guess.
        self.random: random.Random = random.SystemRandom()
        self.timers = Timers(failed)
        self.effects: list[Effect] = []

    @property
    def free_bytes(self) -> int:
        """How many bytes there is room for."""
        return self.limits.coordination_bytes - self.used_bytes - self.segment_bytes

    def stalled(self, seconds: float) -> None:
        """Have the time in which the broker could not hear count against no peer."""
        self.started += seconds
        self.timers.stalled(seconds)

    # Programs

    def add_program(self, program: Program) -> None:
        """Take in a program, new or from the log."""
        self.programs[program.id] = program
        self.programs_by_key[program.by_key] += 1

    def remove_program(self, program: Program) -> None:
        """Forget a program."""
        del self.programs[program.id]
        self.programs_by_key[program.by_key] -= 1
        if not self.programs_by_key[program.by_key]:
            del self.programs_by_key[program.by_key]

    # Effects

    def send(self, peer: bytes | None, message: Message) -> None:
        """Send, unless the peer has no link."""
        if peer is not None:
            self.effects.append(Send(peer, message))

    def forget(self, peer: bytes | None) -> None:
        """Have the loop drop what waits for a link."""
        if peer is not None:
            self.effects.append(Forget(peer))

    def say(self, level: int, text: str) -> None:
        """Tell the operator."""
        self.effects.append(Say(level, text))

    def write(self, kind: RecordKind, key: bytes, payload: Any) -> None:
        """Have this in the log before anything of this drain is sent; `None` says that it is gone."""
        self.effects.append(Write(Record(kind, key, payload)))

    # To members, by their agents. What a lost link loses, the agent asks for again.

    def tell(self, member: Member, message: Message) -> None:
        """Send a message about a member, or for it, to its agent."""
        if member.agent is not None:
            self.before_telling(member.agent, member.program)
            self.send(member.agent.peer, message)

    def respond(self, member: Member, response: Response) -> None:
        """Answer a request."""
        self.tell(member, response)

    def note(self, program: Program, text: str) -> None:
        """Have the root write a line to its standard error; it is lost if the root has no link now."""
        root = self.members.get(program.root)
        if root is not None:
            line = text.encode("utf-8", "replace") + b"\n"
            self.tell(root, ProcessOutput(root.id, program.id, 2, NOTE_AT, [line]))
