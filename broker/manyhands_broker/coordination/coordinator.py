"""Programs of several processes: the theory of their operation.

`Coordinator` is a state machine beside the scheduler and shares nothing with it. Something happens
(`core.events`), it changes its state (`CoordinationState`) and says what is to be done (`effects`). It
owns no socket, clock, thread or file, so that a simulator can drive it through any history and check
`validate()` after every step.

**Who is there.** A *host agent* speaks for the processes of its host, over one link, in their order. A
*program* is a root and every process started from it, its *members*. What a member says comes by its
agent, and the broker believes an agent about its own members alone.

**At most once.** A process is placed once and written down before its agent is told (`lifecycle`). The
agent obeys one order for each id. What is lost with a link is said again by the side that misses it,
under the same id, and the other side knows it.

**What outlives what.** A link is no promise: when it closes nothing is lost. A lease is: when it is over
the host's members are dead, for their agent has stopped them before (`agents`). A program's root is the
program: without it the members end and all its objects go (`lifecycle.end_program`).

**Objects** that members share are kept here (`sync_objects`). Each change is in the write-ahead log
before any member is told of it. So a broker that is killed comes back with every lock as it was.

**A drain** ends with `Drained`: timers run, changed objects are written down. The log is written once
for all of it, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from manyhands_broker.coordination.effects import Effect
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.members import stored
from manyhands_broker.coordination.members.agents import Agents
from manyhands_broker.coordination.members.lifecycle import Lifecycle
from manyhands_broker.coordination.members.members import Members
from manyhands_broker.coordination.members.placing import Nodes, Placing
from manyhands_broker.coordination.members.programs import Programs
from manyhands_broker.coordination.model import Agent, Member, Phase
from manyhands_broker.coordination.objects.sync_objects import SyncObjects
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.shared_memory.segments import (
    grain_of,
    restored_grain,
    restored_segment,
)
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.coordination.streams import Streams
from manyhands_broker.coordination.wait_report import WaitReport
from manyhands_broker.core.events import Drained, Event, KeysChanged, LinkClosed, Received, Stalled
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.state.timers import OnFailure
from manyhands_shared.coordination.identity import NO_ID
from manyhands_shared.coordination.kinds import KEY_BYTES, Operation, Outcome
from manyhands_shared.protocol.messages import Bye, Message, Ping, Pong, Renew, Who
from manyhands_shared.protocol.messages.coordination import (
    AgentEnded,
    AgentHello,
    Began,
    Ended,
    ExitAcknowledged,
    Fetch,
    FetchPart,
    Flow,
    Grant,
    ItemsTaken,
    LockReturned,
    Map,
    MemberHello,
    Open,
    Opened,
    OutputTaken,
    Pin,
    ProcessOutput,
    Program,
    Request,
    Response,
    Shut,
    Start,
    Unmap,
    Withdraw,
    Write,
)

#: What a member says itself.
_Spoken = Request | Withdraw | ItemsTaken | LockReturned


class Coordinator:
    """Feed it events in the order in which they happen; do what it returns, in order."""

    def __init__(
        self,
        limits: CoordinationLimits,
        broker_id: bytes,
        nodes: Nodes,
        now: float,
        *,
        failed: OnFailure,
        epoch: float = 0.0,
    ) -> None:
        """Make a coordinator without programs.

        Args:
            limits: The numbers it decides by.
            broker_id: 16 bytes, new with each start.
            nodes: The scheduler's, for placing.
            now: The time of its start.
            failed: Is told what a timer raises.
            epoch: Unix time minus the `now` of events; for people to read.
        """
        state = self.state = CoordinationState(limits, broker_id, now, epoch, failed)
        self.memory = Memory(state)
        self.objects = SyncObjects(state, self.memory)
        self._nodes = nodes
        self._placing = Placing(nodes, limits.host_processes)
        streams = Streams(state)
        lifecycle = self._lifecycle = Lifecycle(state, self._placing, self.objects, self.memory)
        self._programs = Programs(state, lifecycle)
        self._members = Members(state, self._placing, lifecycle)
        self._agents = Agents(state, nodes, self._programs, lifecycle, streams)
        self.report = WaitReport(state, self.objects)
        members = self._members
        self.objects.signal = members.signal
        self._receivers: dict[type, Callable[[Agent, Any, float], None]] = {
            Request: self._request,
            Withdraw: self._withdraw,
            ItemsTaken: self._items_taken,
            LockReturned: self._lock_returned,
            Program: self._programs.begin,
            MemberHello: lambda agent, message, _: members.hello(agent, message),
            Start: members.start,
            Began: lambda agent, message, _: members.began(agent, message),
            Ended: lambda agent, message, _: members.ended(agent, message),
            ExitAcknowledged: lambda agent, message, _: members.acknowledged(agent, message),
            ProcessOutput: lambda agent, message, _: members.output(agent, message),
            OutputTaken: lambda agent, message, _: members.output_taken(agent, message),
            Open: lambda agent, message, _: streams.open(agent, message),
            Opened: lambda agent, message, _: streams.opened(agent, message),
            Flow: lambda agent, message, _: streams.flow(agent, message),
            Grant: lambda agent, message, _: streams.grant(agent, message),
            Shut: lambda agent, message, _: streams.shut(agent, message),
            Map: self.memory.map,
            Write: self.memory.write,
            Fetch: lambda agent, message, _: self.memory.pacing.fetch(agent, message),
            FetchPart: self.memory.part,
            Unmap: self.memory.unmap,
            Pin: self.memory.pin,
            Renew: lambda agent, message, _: self._agents.renew(agent, message),
            Pong: lambda agent, message, _: self._pong(agent, message),
            Bye: lambda agent, message, _: self._agents.left(agent, message.reason),
        }

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Let `event` happen at `now` (seconds, never falling)."""
        state = self.state
        state.now = now
        # Not `match`, which takes a microsecond for the first of these.
        if type(event) is Received:
            agent = state.agent_of.get(event.peer)
            if agent is not None:
                agent.lease_until = now + state.limits.lease
                self._received(agent, event.peer, event.message, event.who, now)
            else:
                self._stranger(event.peer, event.message, event.who, now)
        elif type(event) is Drained:
            state.timers.run(now)
            self.objects.flush()
            self.memory.flush()
        elif type(event) is LinkClosed:
            agent = state.agent_of.get(event.peer)
            if agent is not None:
                self._agents.link_closed(agent, now)
        elif type(event) is Stalled:
            state.stalled(event.seconds)
            self._agents.stalled(event.seconds)
        elif type(event) is KeysChanged:
            self._agents.keys_changed(event.known)
            self._programs.keys_changed(event.known)
        return self.collect()

    def collect(self) -> list[Effect]:
        """Return the effects that no event has returned."""
        effects, self.state.effects = self.state.effects, []
        return effects

    @property
    def wake_at(self) -> float | None:
        """When to send `Drained` at the latest, even if nothing else happens."""
        return self.state.timers.next

    def restore(self, records: Iterable[Record], now: float) -> list[Effect]:
        """Bring back what the log has. Call it once, before the first event."""
        state = self.state
        state.now = now
        rest: dict[RecordKind, list[Record]] = {kind: [] for kind in RecordKind}
        for record in records:
            rest[record.kind].append(record)
        for record in rest[RecordKind.PROGRAM]:
            state.add_program(stored.unpack_program(record.key, record.payload, state))
        for record in rest[RecordKind.MEMBER]:
            self._restore_member(record)
        for member in state.members.values():
            parent = state.members.get(member.parent)
            if parent is not None:
                parent.children[member] = None
        for kind in (
            RecordKind.OBJECT,
            RecordKind.ITEM,
            RecordKind.REQUESTS,
            RecordKind.WAITER,
        ):
            for record in rest[kind]:
                self.objects.restore(record.kind, record.key, record.payload)
        for agent in list(state.agents.values()):
            self._agents.restored(agent, now)
        self.objects.restored(now)
        self._restore_memory(rest)
        self._tidy(now)
        return self.collect()

    def _restore_member(self, record: Record) -> None:
        state = self.state
        program = state.programs.get(record.payload[0])
        if program is None:
            state.write(RecordKind.MEMBER, record.key, None)
            return
        member, agent_id = stored.unpack_member(record.key, record.payload, program, state)
        state.members[member.id] = program.members[member.id] = member
        if not member.living:
            return
        if not member.is_root:
            self._placing.count(member.host, 1)
        if agent_id == NO_ID:
            if not member.is_root:
                state.awaiting.setdefault(member.host, {})[member] = None
            return
        agent = state.agents.get(agent_id)
        if agent is None:
            agent = Agent(agent_id, member.host, member.node)
            self._agents.add(agent)
        self._lifecycle.attach(member, agent)

    def _restore_memory(self, rest: Mapping[RecordKind, list[Record]]) -> None:
        segments = {
            record.key: restored_segment(record.key, record.payload)
            for record in rest[RecordKind.SEGMENT]
            if record.payload[0] in self.state.programs
        }
        for record in rest[RecordKind.GRAIN]:
            key, index = grain_of(record.key)
            if key in segments:
                segments[key].grains[index] = restored_grain(record.payload)
        for segment in segments.values():
            self.memory.restore(segment)
        self.memory.restored(
            {
                (record.key[:KEY_BYTES], record.key[KEY_BYTES:]): record.payload
                for record in rest[RecordKind.WRITTEN]
                if record.key[:KEY_BYTES] in self.state.programs
            }
        )

    def _tidy(self, now: float) -> None:
        """Go on with what was under way when the log was written last."""
        for program in list(self.state.programs.values()):
            root = self.state.members.get(program.root)
            if program.ending or root is None:
                why, program.ending = program.ending or "its root is not in the log", ""
                self._lifecycle.end_program(program, why)
            elif root.agent is None:
                self._programs.root_lost(program, now)
        for waiting in list(self.state.awaiting.values()):
            for member in list(waiting):
                self._members.await_agent(member, now)

    def ask(self, what: str, arguments: Mapping[str, Any], who: Identity, account: str) -> Any:
        """Answer a query of a client.

        Args:
            what: `agent`, `ps` or `why`.
            arguments: of the query, checked.
            who: asks.
            account: on which it asks.

        Raises:
            LookupError: there is no such program.
        """
        match what:
            case "agent":
                program, root = arguments["program"], arguments["root"]
                self._programs.announce(program, root, arguments["member_key"], who, account)
                return {"address": self.address_on(arguments["host_id"])}
            case "ps":
                skip = arguments.get("skip", 0)
                return self.report.programs(account, skip, everything=who.commands)
            case _:
                return self.report.why(arguments["id"], account, everything=who.commands)

    def address_on(self, host_id: str) -> str:
        """Return where the agent of a host listens; empty if its root has to start one of its own."""
        agent = self.state.hosting.get(host_id)
        if agent is not None and agent.peer is not None and agent.address:
            return agent.address
        node = self._placing.node_on(host_id)
        return "" if node is None else str(node.info.get("agent", ""))

    def figures(self) -> dict[str, Any]:
        """Return the figures of this moment, for metrics."""
        state = self.state
        return {
            "programs": len(state.programs),
            "members": len(state.members),
            "host_agents": len(state.agents),
            "shared_objects": len(self.objects),
            "coordination_bytes": state.used_bytes + state.start_bytes,
            "operations": {
                Operation(number).name.lower(): count
                for number, count in self.objects.operations.items()
            },
            "counters": dict(state.counters),
        }

    def validate(self) -> None:
        """Check every invariant, slowly.

        Raises:
            AssertionError: naming what does not add up.
        """
        from manyhands_broker.coordination.validate import (  # noqa: PLC0415 - of tests alone
            validate,
        )

        validate(self.state, self._placing, self.memory)
        self.objects.validate()
        self.memory.validate()

    def _stranger(self, peer: bytes, message: Message, who: Identity, now: float) -> None:
        """Take a message over a link that is no agent's."""
        match message:
            case AgentHello():
                self._agents.hello(peer, message, who, now)
            case AgentEnded():
                self._agents.ended(peer, message)
            case _:
                self.state.counters["strangers"] += 1
                self.state.send(peer, Who(self.state.broker_id))

    def _received(
        self, agent: Agent, peer: bytes, message: Message, who: Identity, now: float
    ) -> None:
        """Take a message of an agent that is in."""
        kind = type(message)
        receive = self._receivers.get(kind)
        if receive is not None:
            receive(agent, message, now)
        elif kind is AgentHello:
            self._agents.hello(peer, message, who, now)  # type: ignore[arg-type]
        elif isinstance(message, Ping):
            self.state.send(peer, Pong(message.counter))
        else:
            self.state.counters["unexpected_messages"] += 1

    def _pong(self, agent: Agent, message: Pong) -> None:
        self._agents.alive(agent)
        self.memory.pacing.heard(agent, message.counter)

    def _request(self, agent: Agent, message: Request, now: float) -> None:
        member = self._speaker(agent, message)
        if member is not None:
            self.objects.request(member, message, now)
        elif not message.quiet:
            gone = Response(message.member, message.number, Outcome.GONE, 0, None, [])
            self.state.send(agent.peer, gone)

    def _withdraw(self, agent: Agent, message: Withdraw, now: float) -> None:
        member = self._speaker(agent, message)
        if member is not None:
            self.objects.withdraw(member, message, now)

    def _items_taken(self, agent: Agent, message: ItemsTaken, now: float) -> None:
        member = self._speaker(agent, message)
        if member is not None:
            self.objects.items_taken(member, message, now)

    def _lock_returned(self, agent: Agent, message: LockReturned, now: float) -> None:
        member = self._speaker(agent, message)
        if member is not None:
            self.objects.lock_returned(member, message, now)

    def _speaker(self, agent: Agent, message: _Spoken) -> Member | None:
        """Return the member that speaks, if it may: it lives, and behind this agent."""
        member = self.state.members.get(message.member)
        if (
            member is not None
            and member.agent is agent
            and member.phase is not Phase.ENDED
            and not member.program.ending
        ):
            return member
        self.state.counters["refused_requests"] += 1
        return None
