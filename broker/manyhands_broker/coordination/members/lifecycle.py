"""How members and programs change state: the one place where they begin, end and are forgotten.

    PLACED ─ Start sent ─▶ STARTING ─ Began ─▶ RUNNING ─ Ended ─▶ ENDED ─ ExitAcknowledged ─▶ forgotten
      └────────── host lost, agent lost, not started: Ended(-9) ──────────┘

A member is written down before its agent is told to start it, and is never placed a second time. So it
is started once or not at all. Its end stays here until its parent has taken note, for the news may be
lost with a link. A member without a living parent is forgotten when it ends.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

from manyhands_broker.coordination.members import stored
from manyhands_broker.coordination.members.output import OutputOrder
from manyhands_broker.coordination.members.placing import Placing
from manyhands_broker.coordination.model import NO_PARENT, Agent, Member, Phase, Program
from manyhands_broker.coordination.objects.sync_objects import SyncObjects
from manyhands_broker.coordination.records import RecordKind
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages.coordination import (
    Began,
    Ended,
    Signal,
    Start,
)
from manyhands_shared.protocol.messages.coordination import Program as ProgramMessage

#: The code of a member that is gone with its host or agent, or never was started.
LOST = -int(signal.SIGKILL)


class Lifecycle:
    """Moves members and programs from state to state."""

    def __init__(
        self, state: CoordinationState, placing: Placing, objects: SyncObjects, memory: Memory
    ) -> None:
        self._state = state
        self._placing = placing
        self._objects = objects
        self._memory = memory
        self.output = OutputOrder(state)
        #: Is called for an agent that has neither link nor members any more.
        self.agent_gone: Callable[[Agent], None] = lambda _agent: None

    # Members

    def add(self, member: Member, agent: Agent | None) -> None:
        """Take in a member; without an agent it waits for that of its host."""
        state = self._state
        state.members[member.id] = member
        member.program.members[member.id] = member
        parent = state.members.get(member.parent)
        if parent is not None:
            parent.children[member] = None
        if not member.is_root:
            self._placing.count(member.host, 1)
        if agent is None:
            state.awaiting.setdefault(member.host, {})[member] = None
        else:
            self.attach(member, agent)
        self.record(member)

    def attach(self, member: Member, agent: Agent) -> None:
        """Have an agent speak for a member."""
        member.agent, member.writer = agent, agent.id
        agent.members[member] = None
        agent.programs[member.program] += 1
        member.host, member.node = agent.host, agent.node

    def record(self, member: Member) -> None:
        """Write a member's state down."""
        self._state.write(RecordKind.MEMBER, member.id, stored.pack_member(member, self._state))

    def record_program(self, program: Program) -> None:
        """Write a program's state down."""
        payload = stored.pack_program(program, self._state)
        self._state.write(RecordKind.PROGRAM, program.id, payload)

    def keep_start(self, member: Member, start: Start) -> None:
        """Keep what a member is started with until it has begun; it counts like what is shared."""
        member.start = start
        self._state.start_bytes += total(start.bodies)

    def _drop_start(self, member: Member) -> None:
        if member.start is not None:
            self._state.start_bytes -= total(member.start.bodies)
            member.start = None

    def send_start(self, member: Member) -> None:
        """Have the agent start a member, if it has a link and what to start it with is here."""
        agent = member.agent
        if agent is None or agent.peer is None or member.start is None:
            return
        self.introduce(agent, member.program)
        self._state.before_telling(agent, member.program)
        self._state.send(agent.peer, member.start)
        member.phase = Phase.STARTING
        self.send_signals(member)

    def introduce(self, agent: Agent, program: Program) -> None:
        """Tell an agent by what key members of a program prove themselves, once over each link."""
        if agent.peer is not None and program.id not in agent.told:
            agent.told.add(program.id)
            message = ProgramMessage(
                program.id, program.root, program.host, program.member_key, program.info
            )
            self._state.send(agent.peer, message)

    def began(self, member: Member, pid: int) -> None:
        """Take note that a member runs."""
        member.phase = Phase.RUNNING
        member.pid = pid
        member.since = self._state.now
        self._drop_start(member)
        self.record(member)
        parent = self._state.members.get(member.parent)
        if parent is not None:
            self._state.tell(parent, Began(member.id, pid))

    def end(self, member: Member, code: int, reason: str = "", *, host_lost: bool = False) -> None:
        """End a member that has not ended: pass on what it held, and tell its parent."""
        state = self._state
        assert member.living
        member.phase = Phase.ENDED
        member.code, member.reason = code, reason
        member.by_signal, member.host_lost = code < 0, host_lost
        member.since = state.now
        self._drop_start(member)
        member.signals.clear()
        agent = member.agent
        self.release(member)
        state.counters["members_ended"] += 1
        self._objects.member_ended(member, state.now)
        member.answers.clear()
        member.waiting.clear()
        if host_lost:
            # What the root lacks of its output is lost with it.
            member.output.clear()
        parent = state.members.get(member.parent)
        tells = parent is not None and parent.living and self.output.may_tell(member)
        self._orphan(member, agent)
        if parent is not None and tells:
            state.tell(parent, Ended(member.id, code, reason))
        if member.is_root:
            self.end_program(member.program, reason or "its root has ended")
        if member.id not in state.members:
            return
        if parent is not None and parent.living and not member.program.ending:
            self.record(member)
        else:
            self.forget(member)

    def forget(self, member: Member) -> None:
        """Forget a member that has ended; with the last one, a program that ends."""
        state, program = self._state, member.program
        del state.members[member.id], program.members[member.id]
        parent = state.members.get(member.parent)
        if parent is not None:
            parent.children.pop(member, None)
        state.write(RecordKind.MEMBER, member.id, None)
        if program.ending and not program.members:
            state.remove_program(program)
            state.write(RecordKind.PROGRAM, program.id, None)

    def signal(self, member: Member, number: int) -> None:
        """Have a living member sent a signal, when its agent can be told."""
        if member.phase == Phase.PLACED or member.agent is None or member.agent.peer is None:
            if number not in member.signals:
                member.signals.append(number)
        else:
            self._state.tell(member, Signal(member.id, number))

    def send_signals(self, member: Member) -> None:
        """Send the signals that waited for a link."""
        signals, member.signals = member.signals, []
        for number in signals:
            self._state.tell(member, Signal(member.id, number))

    def catch_up(self, agent: Agent, member: Member) -> None:
        """Say to an agent what a lost link may have kept from a member; it asks for the rest."""
        state = self._state
        self.introduce(agent, member.program)
        state.before_telling(agent, member.program)
        if member.is_root:
            member.program.root_lost_at = None
            self.output.root_linked(member, agent)
        if member.phase == Phase.PLACED:
            self.send_start(member)
        else:
            self.send_signals(member)
            self._objects.linked(member)
        for child in member.children:
            if not child.living and self.output.may_tell(child):
                state.send(agent.peer, Ended(child.id, child.code, child.reason))
        parent = state.members.get(member.parent)
        if parent is None and member.parent != NO_PARENT:
            state.send(agent.peer, Ended(member.parent, 0, ""))
        elif parent is not None and not parent.living and self._hears(agent, parent):
            state.send(agent.peer, Ended(parent.id, parent.code, parent.reason))

    def _hears(self, agent: Agent, member: Member) -> bool:
        """Whether an agent may hear of a member's end: it would tell the parent, if that is there."""
        parent = self._state.members.get(member.parent)
        return parent is None or parent.agent is not agent or self.output.may_tell(member)

    def cannot_start(self, member: Member) -> bool:
        """End a member that its agent does not have and that cannot be started any more."""
        parent = self._state.members.get(member.parent)
        if member.start is not None or (parent is not None and parent.living):
            return False
        self.end(member, LOST, "it was not started: its parent ended first")
        return True

    def release(self, member: Member) -> None:
        """Take a member off its host."""
        agent, state = member.agent, self._state
        if agent is not None:
            agent.members.pop(member, None)
            agent.programs[member.program] -= 1
            if not agent.programs[member.program]:
                del agent.programs[member.program]
            idle = self.is_idle(agent) or (agent.expired and not agent.members)
            if agent.peer is None and idle:
                self.agent_gone(agent)
        elif member.host in state.awaiting:
            waiting = state.awaiting[member.host]
            waiting.pop(member, None)
            if not waiting:
                del state.awaiting[member.host]
        if not member.is_root:
            self._placing.count(member.host, -1)

    def linked(self, agent: Agent) -> None:
        """Take note that an agent has a new link."""
        self._memory.linked(agent)

    def is_idle(self, agent: Agent) -> bool:
        """Whether nothing is lost with an agent: it has no members, streams or needed memory."""
        return not (agent.members or agent.streams or agent.id in self._memory.of_agent)

    def forget_memory(self, agent: Agent) -> None:
        """Take note that an agent is gone, with the memory of its host."""
        self._memory.agent_gone(agent.id)

    def _orphan(self, member: Member, own: Agent | None) -> None:
        """Let a member's children be without a parent: their agents hear of it, and need ask no more."""
        state = self._state
        agents: dict[Agent, None] = {}
        for child in list(member.children):
            if not child.living:
                self.forget(child)
            elif child.agent not in (None, own) and self._hears(child.agent, member):
                agents[child.agent] = None
        for agent in agents:
            state.send(agent.peer, Ended(member.id, member.code, member.reason))
        for child in list(member.children):
            told = child.phase == Phase.PLACED and child.agent is not None
            if told and child.agent is not None and child.agent.peer is not None:
                self.cannot_start(child)

    # Programs

    def end_program(self, program: Program, why: str) -> None:
        """End a program: its objects at once, its members by SIGTERM, and SIGKILL a little later."""
        state = self._state
        if program.ending:
            return
        program.ending = why
        self.record_program(program)
        state.say(logging.INFO, f"program {program.id.hex()[:8]} ends: {why}")
        state.counters["programs_ended"] += 1
        self._objects.program_ended(program)
        self._memory.program_ended(program)
        for member in list(program.members.values()):
            if member.id not in program.members:
                continue  # forgotten with its parent
            if not member.living:
                self.forget(member)
            elif member.phase == Phase.PLACED or member.is_root or _out_of_reach(member):
                if member.is_root:
                    state.tell(member, Ended(member.id, LOST, why))
                self.end(member, LOST, why)
            else:
                self.signal(member, signal.SIGTERM)
        if program.members:
            self.kill_later(program)

    def kill_later(self, program: Program) -> None:
        """Have what is left of a program that ends killed a little later."""
        state = self._state
        state.timers.at(state.now + state.limits.kill_after, lambda _now: self._kill(program))

    def _kill(self, program: Program) -> None:
        for member in program.members.values():
            if member.living:
                self.signal(member, signal.SIGKILL)


def _out_of_reach(member: Member) -> bool:
    """Whether its host has not been heard of for a lease: it counts as dead."""
    return member.agent is not None and member.agent.expired
