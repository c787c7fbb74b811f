"""What nodes say: how they come in, take tasks, report, leave."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from manyhands_broker.core.effects import ExpectHeartbeats, ForgetHeartbeats
from manyhands_broker.core.history.running import keep
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.machine import MEMORY
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.peers.node_info import declare
from manyhands_broker.core.peers.orphans import Orphans
from manyhands_broker.core.peers.rejoining import Rejoining
from manyhands_broker.core.peers.relays.inspections import Inspections
from manyhands_broker.core.peers.relays.printing import Printing
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.peers.results import Outcomes, runs
from manyhands_broker.core.records import TaskPrinted
from manyhands_broker.core.state import twins
from manyhands_broker.core.state.delayed_acks import DelayedAcks
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol import labels
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Bye,
    Cancel,
    Drain,
    Event,
    Inspected,
    Lease,
    Making,
    Message,
    Need,
    Output,
    Ping,
    Pong,
    Printed,
    Ran,
    Refused,
    Renew,
    Results,
    Returned,
    RunGroup,
    Span,
    Stock,
    Unheard,
    Want,
    WorkerHello,
    WorkerWelcome,
)
from manyhands_shared.text import amount


class Nodes:
    """Nodes: how they come in, take tasks, report, and are condemned."""

    def __init__(
        self,
        transitions: Transitions,
        orphans: Orphans,
        delayed_acks: DelayedAcks,
        outcomes: Outcomes,
        value_relay: ValueRelay,
        printing: Printing,
        inspections: Inspections,
    ) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._outcomes = outcomes
        self._value_relay = value_relay
        self._printing = printing
        self._inspections = inspections
        self._delayed_acks = delayed_acks
        self._orphans = orphans
        self._rejoining = Rejoining(transitions, orphans, outcomes)
        #: Hellos under a name that another node has, until that one has proved dead or alive.
        self._rivals: dict[str, tuple[bytes, WorkerHello, Identity]] = {}

    def hello(self, peer: bytes, hello: WorkerHello, who: Identity, now: float) -> None:
        """Let a node in, over its first link or a later one."""
        state = self._state
        if not who.works:
            state.counters["refused_roles"] += 1
            reason = f"the key {who.name or 'used'} is a {who.role}'s: a node takes a worker's"
            state.send(peer, Refused("role", reason))
            return
        if hello.protocol != PROTOCOL_VERSION:
            state.counters["refused_protocol"] += 1
            state.send(
                peer,
                Refused(
                    "protocol",
                    f"the broker speaks protocol {PROTOCOL_VERSION} and node {hello.node} "
                    f"{hello.protocol}; install the same version of manyhands on both",
                ),
            )
            return
        if not hello.node or not hello.slots:
            state.send(peer, Refused("bad-hello", "a node needs a name and at least one slot"))
            return
        here = state.fleet.by_peer.get(peer)
        if here is not None and (here.name, here.boot_id) != (hello.node, hello.boot_id):
            state.counters["refused_nodes"] += 1
            reason = f"this link is node {here.name}'s: every node opens one of its own"
            state.send(peer, Refused("bad-hello", reason))
            return
        node = state.fleet.by_name.get(hello.node)
        if node is not None and (node.boot_id != hello.boot_id or node.who.key != who.key):
            if node.linked:
                self._rivals[hello.node] = (peer, hello, who)
                state.send(node.peer, Ping(0))
                return
            self.condemn(node, "another process took its name")
            node = None
        if node is None:
            if refusal := state.ledgers.of(who).refuse_node() or self._no_room():
                state.counters["refused_nodes"] += 1
                state.send(peer, Refused("full", refusal))
                return
            node = self._join(peer, hello, who, now)
            # Before it is asked what it could have been given: of cores it has as many as slots.
            self._resize(node, hello.slots, hello.window)
            declare(node, hello.info)
            keep = self._rejoining.reclaim(node, hello)
        else:
            keep = self._rejoining.relink(node, peer, hello)
            self._resize(node, hello.slots, hello.window)
            declare(node, hello.info)
        node.who = who
        node.draining = hello.window == 0 or bool(node.drain)
        node.lease_until = now + state.limits.lease
        state.fleet.update(node, capabilities=True)
        self._welcome(node, keep)
        # The order may have been lost with the old link.
        if node.drain:
            state.send(peer, Drain(node.drain))
        # A cancellation that was on its way over the old link may be lost with it.
        for span in keep:
            cancelling = state.jobs[span.job].cancelling if span.job in state.jobs else ()
            again = [index for index in span.indices if index in cancelling]
            if again:
                state.send(peer, Cancel([Span(span.job, span.attempt, again)]))

    # A case for each message.
    def received(self, node: Node, message: Message, now: float) -> None:
        """Take a message of a node that is in."""
        state = self._state
        # Whatever the node says shows that its main loop runs. A renewal may be stuck behind a large
        # result on a slow link.
        node.lease_until = now + state.limits.lease
        match message:
            case Results(seq, groups):
                node.last_result, node.stalled = now, False
                for group in groups:
                    self._outcomes.results(node, group)
                nbytes = sum(total(group.bodies) for group in groups)
                self._delayed_acks.acknowledge(node, seq, nbytes)
                state.fleet.update(node)
            case Renew():
                self._renewed(node, message)
            case Returned(spans):
                self._returned(node, spans, now)
            case Need(digest):
                function = state.functions.get(digest)
                if function is not None:
                    state.send(node.peer, function)
            case Output() | Printed() | Inspected():
                self._about_tasks(node, message)
            case Ran(groups, running):
                self._ran(node, groups, now)
                keep(node, running, now)
            case Want() | Stock() | Unheard():
                self._about_values(node, message)
            case Event() | Making():
                self._about_itself(node, message, now)
            case Ping(counter):
                state.send(node.peer, Pong(counter))
            case Pong():
                self._alive(node)
            case Bye(reason):
                self.condemn(node, reason or "it left", blame=False)
            case _:
                state.counters["unexpected_messages"] += 1

    def _renewed(self, node: Node, renewal: Renew) -> None:
        """Take over what a node says of its slots, and of what its tasks take, with its renewal."""
        # Without a slot it can begin none, whatever it would hold.
        window = renewal.window if renewal.slots else 0
        node.draining = window == 0 or bool(node.drain)
        if renewal.lent or node.lent:
            node.lend(self._outcomes.taking(node, renewal.lent))
        self._resize(node, renewal.slots, window)
        self._state.send(node.peer, Lease(renewal.counter))

    def _about_values(self, node: Node, message: Want | Stock | Unheard) -> None:
        match message:
            case Want():
                self._value_relay.wanted(node, message)
            case Stock():
                self._value_relay.stocked_by(node, message)
            case Unheard(owner):
                self._value_relay.unheard(owner)

    def _about_itself(self, node: Node, message: Event | Making, now: float) -> None:
        match message:
            case Event(kind, text, details):
                self._event(node, kind, text, details, now)
            case Making(environments, failed):
                node.tell_environments(
                    labels.environments(environments), labels.environments(failed)
                )
                self._state.fleet.update(node, capabilities=True)

    def _event(self, node: Node, kind: str, text: str, details: dict[str, Any], now: float) -> None:
        """Take note of an event that a node tells, as often as its key may."""
        state, ledger = self._state, node.ledger
        if ledger.take_event(now):
            state.note(node, kind, text, details, private=True)
            return
        state.counters["refused_events"] += 1
        if not ledger.muted:
            ledger.muted = True
            text = f"{ledger.title} sent too many events: more are dropped, some a second excepted"
            state.say(logging.WARNING, text)

    def _about_tasks(self, node: Node, message: Output | Printed | Inspected) -> None:
        """Take what tasks have printed, and what they do."""
        if isinstance(message, Output):
            self._printed(node, message)
        elif isinstance(message, Printed):
            self._printing.received(node, message)
        else:
            self._inspections.answered(node, message)

    def _printed(self, node: Node, output: Output) -> None:
        """Record what a task has printed that the node runs; drop what is of other tasks."""
        state = self._state
        span = Span(output.job, output.attempt, [output.index])
        if not any(self._outcomes.owned(node, span)):
            state.counters["refused_output"] += 1
            return
        job = state.jobs[output.job]
        if job.options.durable and state.store.has_room(len(output.text)):
            state.record(TaskPrinted(output.job, output.attempt, output.index, output.text))

    def _ran(self, node: Node, groups: list[RunGroup], now: float) -> None:
        """Take note of when tasks ran; a node has no say about jobs that it was given nothing of."""
        for group in groups:
            job = self._state.jobs.get(group.job)
            if job is None or node in job.known_by:
                self._state.histories.ran(job, node.name, group, now)

    def _returned(self, node: Node, spans: list[Span], now: float) -> None:
        """Requeue tasks that the node gives back unstarted."""
        state = self._state
        node.recalling = False
        for span in spans:
            for index in span.indices if node.stopping else ():
                node.stopped((span.job, span.attempt, index))
            for piece in self._outcomes.owned(node, span):
                self._transitions.requeue(piece, node, started=False)
                state.counters["tasks_returned"] += piece.size
            self._orphans.returned(node, span)
        if not spans:
            node.recall_at = now + state.limits.lease / 100
        state.fleet.update(node)

    def link_closed(self, node: Node, now: float) -> None:
        """Give a node whose link is gone a short grace to come back over a new one."""
        state = self._state
        rival = self._rivals.pop(node.name, None)
        if rival is not None:
            self.condemn(node, "its link closed and another process took its name")
            self.hello(*rival, now)
            return
        if not node.linked:
            return
        node.linked = False
        back_by = node.back_by = min(node.lease_until, now + state.limits.link_grace)
        state.fleet.by_peer.pop(node.peer, None)
        state.forget(node.peer)
        state.fleet.update(node)
        state.timers.await_peer(back_by, lambda _now: self._unlinked_too_long(node, back_by))

    def suspected(self, row: int, boot_id: bytes, phi: float) -> None:
        """Probe the link of a node whose heartbeats stay away. Take nothing from it."""
        node = self._at(row, boot_id)
        if node is not None:
            if not node.phi:
                self._state.counters["suspicions"] += 1
                self._state.say(
                    logging.INFO,
                    f"node {node.name}: heartbeats stay away (phi {phi:.1f}); probing its link",
                    node=node.name,
                )
            node.phi = phi
            if node.linked:
                self._state.send(node.peer, Ping(0))

    def calmed(self, row: int, boot_id: bytes) -> None:
        """Suspect a node no more: its heartbeats are back."""
        node = self._at(row, boot_id)
        if node is not None:
            node.phi = 0.0

    def pressed(self, row: int, boot_id: bytes, level: str) -> None:
        """Take note of the pressure on a node's machine."""
        node = self._at(row, boot_id)
        if node is None or node.pressure == level:
            return
        before, node.pressure = node.pressure, level
        self._state.fleet.update(node)
        self._state.fleet.host_changed(node.host_id)
        if level == MEMORY:
            text = (
                f"less than {node.machine.reserve >> 20} MiB of memory are available on its machine; "
                "it gets nothing new while another node can take it"
            )
            self._state.note(node, "memory-short", text, {}, private=False)
        elif before == MEMORY:
            text = f"node {node.name}: there is enough memory again"
            self._state.say(logging.INFO, text, node=node.name)

    def stalled(self, seconds: float) -> None:
        """Extend every lease by the time in which the broker could not hear."""
        for node in self._state.fleet:
            node.lease_until += seconds

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """Cut off the nodes whose keys are not let in any more, or not as nodes."""
        for name, (peer, _, waiting) in list(self._rivals.items()):
            who = known.get(waiting.key)
            if waiting.key and (who is None or not who.works):
                del self._rivals[name]
                reason = f"the key {waiting.name} was revoked"
                self._state.send(peer, Refused("revoked", reason))
        for node in list(self._state.fleet):
            if not node.who.key:
                continue
            who = known.get(node.who.key)
            if who is not None and who.works:
                node.who = who
                continue
            self._state.send(node.peer, Refused("revoked", f"the key {node.who.name} was revoked"))
            self._state.counters["keys_cut"] += 1
            self.condemn(node, f"its key {node.who.name} was revoked", blame=False)

    def condemn(self, node: Node, why: str, *, blame: bool = True) -> None:
        """Take everything from a node and forget it. What still comes from it is stale."""
        state = self._state
        if state.fleet.by_name.get(node.name) is not node:
            return
        node.linked = False
        active, precise = node.active, node.active <= node.slots
        twins.put_all_first(node)
        for chunk in list(node.assigned):
            for piece in runs(chunk, node):
                if blame:
                    self._outcomes.blame(piece, node, why, precise)
                else:
                    self._transitions.requeue(piece, node)
        for job in node.knows:
            job.known_by.discard(node)
        self._orphans.forget(node)
        self._value_relay.left(node)
        state.fleet.remove(node)
        node.ledger.nodes -= 1
        state.ledgers.tidy(node.ledger)
        self._fit_sessions()
        state.effects.append(ForgetHeartbeats(node.row))
        state.forget(node.peer)
        state.counters["nodes_condemned" if blame else "nodes_left"] += 1
        state.say(
            logging.WARNING if blame else logging.INFO,
            f"node {node.name} is gone: {why}; {amount(active, 'task')} of it queued again",
            node=node.name,
        )
        rival = self._rivals.pop(node.name, None)
        if rival is not None:
            # When this event is over: what condemns a node may let another in itself.
            state.timers.at(state.now, lambda now: self.hello(*rival, now))

    # Coming in

    def _no_room(self) -> str:
        """Return why no node can come in, whatever its key; empty if one can."""
        most = self._state.limits.nodes
        return "" if len(self._state.fleet) < most else f"the broker has {most} nodes, its most"

    def _join(self, peer: bytes, hello: WorkerHello, who: Identity, now: float) -> Node:
        state = self._state
        node = Node(peer, hello.node, hello.boot_id, state.fleet.free_row(), now)
        node.ledger = state.ledgers.of(who)
        node.ledger.nodes += 1
        state.fleet.add(node)
        state.counters["nodes_joined"] += 1
        state.timers.at(now + state.limits.lease, lambda at: self._lease_check(node, at))
        state.timers.at(now + state.limits.renew_interval, lambda at: self._silence_check(node, at))
        text = f"node {node.name} joined with {amount(hello.slots, 'slot')}"
        state.say(logging.INFO, text, node=node.name)
        return node

    def _welcome(self, node: Node, keep: list[Span]) -> None:
        state = self._state
        key = secrets.token_bytes(32)
        state.effects.append(ExpectHeartbeats(node.row, node.boot_id, key, node.machine))
        limits = state.limits
        state.send(
            node.peer,
            WorkerWelcome(
                PROTOCOL_VERSION,
                state.broker_id,
                limits.lease,
                limits.renew_interval,
                limits.beat_port,
                node.row,
                key,
                limits.beat_interval,
                keep,
                limits.hash_seed,
            ),
        )

    def _alive(self, node: Node) -> None:
        rival = self._rivals.pop(node.name, None)
        if rival is not None:
            self._state.counters["refused_names"] += 1
            self._state.send(
                rival[0],
                Refused(
                    "name-taken",
                    f"a living node is called {node.name} already; give this one another name",
                ),
            )

    def _resize(self, node: Node, slots: int, window: int) -> None:
        before = self._state.fleet.slots
        self._state.fleet.resize(node, slots, window)
        if self._state.fleet.slots != before:
            self._fit_sessions()

    def _fit_sessions(self) -> None:
        """Fit the limits of sessions to a fleet that has grown or shrunk."""
        state = self._state
        for session in state.sessions.values():
            if session.limit:
                session.fit(state.fleet.slots)
                state.unpark(session)

    # Time

    def _lease_check(self, node: Node, now: float) -> None:
        if self._state.fleet.by_name.get(node.name) is not node:
            return
        if now >= node.lease_until:
            self.condemn(node, "its lease ran out")
        else:
            self._state.timers.at(node.lease_until, lambda at: self._lease_check(node, at))

    def _silence_check(self, node: Node, now: float) -> None:
        """Probe the link of a node that has not renewed for two intervals."""
        state = self._state
        if state.fleet.by_name.get(node.name) is not node:
            return
        interval = state.limits.renew_interval
        if node.linked and node.lease_until - now < state.limits.lease - 2 * interval:
            state.send(node.peer, Ping(0))
        state.timers.at(now + interval, lambda at: self._silence_check(node, at))

    def _unlinked_too_long(self, node: Node, back_by: float) -> None:
        # Unless it has come back; it may have lost another link since.
        if not node.linked and node.back_by == back_by:
            self.condemn(node, "its link closed")

    def _at(self, row: int, boot_id: bytes) -> Node | None:
        node = self._state.fleet.by_row.get(row)
        return node if node is not None and node.boot_id == boot_id else None
