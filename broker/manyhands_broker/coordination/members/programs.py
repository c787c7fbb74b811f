"""Programs: who may have one, and what becomes of it without its root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manyhands_broker.coordination.members.lifecycle import LOST, Lifecycle
from manyhands_broker.coordination.model import NO_PARENT, Agent, Member, Phase, Program
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.core.model.identity import Identity
from manyhands_shared.protocol.messages.coordination import Placed
from manyhands_shared.protocol.messages.coordination import Program as ProgramMessage

#: Announcements of programs that have not come, of all clients.
MAX_ANNOUNCED = 10_000


@dataclass(frozen=True, slots=True)
class _Announced:
    """A program that a client will have: an agent with a worker's key may register it."""

    root: bytes
    member_key: bytes
    who: Identity
    account: str
    until: float


class Programs:
    """Registers programs and watches over their roots."""

    def __init__(self, state: CoordinationState, lifecycle: Lifecycle) -> None:
        self._state = state
        self._lifecycle = lifecycle
        self._announced: dict[bytes, _Announced] = {}

    def announce(
        self, program: bytes, root: bytes, member_key: bytes, who: Identity, account: str
    ) -> None:
        """Take note of a program that a client is about to begin through the agent of its host."""
        now, announced = self._state.now, self._announced
        announced.pop(program, None)
        while announced:
            # The oldest stands first.
            first = next(iter(announced))
            if announced[first].until >= now and len(announced) < MAX_ANNOUNCED:
                break
            del announced[first]
        until = now + self._state.limits.announced
        announced[program] = _Announced(root, member_key, who, account, until)

    def begin(self, agent: Agent, message: ProgramMessage, now: float) -> None:
        """Register a program, or go on with one over another agent or link."""
        program = self._state.programs.get(message.program)
        if program is None:
            error = self._register(agent, message, now)
        else:
            error = self._go_on(agent, program, message)
        self._state.send(agent.peer, Placed(message.root, agent.host, agent.node, error))

    def _register(self, agent: Agent, message: ProgramMessage, now: float) -> str:
        """Register a new program; return why not, empty if it is."""
        state = self._state
        if message.info.get("goes_on") is True:
            # It was registered once, and ended while its root was out of reach: what it started is dead.
            return "the program has ended: its root was out of reach, or the broker's log was lost"
        if message.root in state.members:
            return "another process has the id of its root"
        who, account = agent.who, agent.who.account("")
        if not who.submits:
            said = self._announced.get(message.program)
            if said is None or (said.root, said.member_key) != (message.root, message.member_key):
                state.counters["refused_programs"] += 1
                return "no client that may submit has announced this program to the broker"
            who, account = said.who, said.account
        if state.programs_by_key[who.key] >= state.limits.key_programs:
            return f"this key has {state.limits.key_programs:,} programs, the most it may have"
        self._announced.pop(message.program, None)
        program = Program(message.program, message.root, agent.host, message.member_key)
        program.info, program.account, program.by_key = message.info, account, who.key
        program.began = now
        state.add_program(program)
        root = Member(message.root, program, NO_PARENT)
        root.name, root.phase, root.since = "MainProcess", Phase.RUNNING, now
        pid = message.info.get("pid")
        root.pid = pid if type(pid) is int else 0
        agent.told.add(program.id)
        self._lifecycle.record_program(program)
        self._lifecycle.add(root, agent)
        state.counters["programs_begun"] += 1
        return ""

    def _go_on(self, agent: Agent, program: Program, message: ProgramMessage) -> str:
        """Let a root that is known speak through this agent; return why not, empty if it does."""
        root = self._state.members.get(program.root)
        known = program.root == message.root and program.member_key == message.member_key
        if not known:
            return "another program has this id"
        if program.ending or root is None or not root.living:
            return f"the program has ended: {program.ending}"
        agent.told.add(program.id)
        if root.agent is agent:
            return ""
        if agent.host != program.host or (root.agent is not None and root.agent.peer is not None):
            return "the root of this program is behind another host agent"
        if root.agent is not None:
            # Its agent died. The root itself has turned to another.
            self._leave_behind(root, root.agent)
        self._lifecycle.attach(root, agent)
        self._lifecycle.record(root)
        self._lifecycle.catch_up(agent, root)
        return ""

    def _leave_behind(self, root: Member, agent: Agent) -> None:
        """Take a root from its agent; what that one had, if its lease is over, is lost now."""
        self._lifecycle.release(root)
        for member in list(agent.members) if agent.expired else ():
            if member.program is root.program and member.living:
                reason = "its host was not heard of for a lease"
                self._lifecycle.end(member, LOST, reason, host_lost=True)

    def root_lost(self, program: Program, now: float) -> None:
        """Give a program whose root's host has no link a grace."""
        if program.root_lost_at is None:
            program.root_lost_at = now
            at = now + self._state.limits.session_grace
            self._state.timers.await_peer(at, lambda _now: self._expire(program, now))

    def _expire(self, program: Program, lost_at: float) -> None:
        # Its root may have come back, and have been lost again since.
        if program.root_lost_at != lost_at:
            return
        if program.ending or program.id not in self._state.programs:
            return
        self._state.counters["programs_expired"] += 1
        self._lifecycle.end_program(program, "its root did not come back")

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """End the programs of keys that are not let in any more, or not as clients."""
        for program in list(self._state.programs.values()):
            who = known.get(program.by_key)
            if program.by_key and (who is None or not who.submits):
                self._lifecycle.end_program(program, "the key of its client was revoked")
