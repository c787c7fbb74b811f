"""What nodes say: how they come in, hold, report, leave."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from manyhands_broker.core.effects import Unwatch, Watch
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.job import Piece
from manyhands_broker.core.model.machine import MEMORY
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import State
from manyhands_broker.core.peers.delayed_acks import Courtesy
from manyhands_broker.core.peers.node_info import declare
from manyhands_broker.core.peers.orphans import MAX_CLAIM, Orphans
from manyhands_broker.core.peers.results import Outcomes, runs
from manyhands_broker.core.peers.value_relay import Exchange
from manyhands_broker.core.records import TaskPrinted
from manyhands_broker.core.state import twins
from manyhands_broker.core.transitions import Book, singles
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Bye,
    Cancel,
    Drain,
    Event,
    Lease,
    Message,
    Need,
    Output,
    Ping,
    Pong,
    Refused,
    Renew,
    Results,
    Returned,
    Span,
    Unheard,
    Want,
    WorkerHello,
    WorkerWelcome,
)


class Workers:
    """Nodes: how they come in, hold tasks, report, and are condemned."""

    def __init__(
        self,
        book: Book,
        orphans: Orphans,
        courtesy: Courtesy,
        outcomes: Outcomes,
        exchange: Exchange,
    ) -> None:
        self._book = book
        self._outcomes = outcomes
        self._exchange = exchange
        self._courtesy = courtesy
        self._orphans = orphans
        #: Hellos under a name that another node holds, until that one has proved dead or alive.
        self._rivals: dict[str, tuple[bytes, WorkerHello, Identity]] = {}

    def hello(self, peer: bytes, hello: WorkerHello, who: Identity, now: float) -> None:
        """Let a node in, over its first link or a later one."""
        book = self._book
        if not who.works:
            book.counters["refused_roles"] += 1
            reason = f"the key {who.name or 'used'} is a {who.role}'s: a node takes a worker's"
            book.send(peer, Refused("role", reason))
            return
        if hello.protocol != PROTOCOL_VERSION:
            book.counters["refused_protocol"] += 1
            book.send(
                peer,
                Refused(
                    "protocol",
                    f"the broker speaks protocol {PROTOCOL_VERSION} and node {hello.node} "
                    f"{hello.protocol}; install the same version of manyhands on both",
                ),
            )
            return
        if not hello.node or not hello.slots:
            book.send(peer, Refused("bad-hello", "a node needs a name and at least one slot"))
            return
        here = book.fleet.by_peer.get(peer)
        if here is not None and (here.name, here.boot_id) != (hello.node, hello.boot_id):
            book.counters["refused_nodes"] += 1
            reason = f"this link is node {here.name}'s: every node opens one of its own"
            book.send(peer, Refused("bad-hello", reason))
            return
        node = book.fleet.by_name.get(hello.node)
        if node is not None and (node.boot_id != hello.boot_id or node.who.key != who.key):
            if node.linked:
                self._rivals[hello.node] = (peer, hello, who)
                book.send(node.peer, Ping(0))
                return
            self.condemn(node, "another process took its name")
            node = None
        if node is None:
            if refusal := book.ledgers.of(who).refuse_node() or self._no_room():
                book.counters["refused_nodes"] += 1
                book.send(peer, Refused("full", refusal))
                return
            node = self._join(peer, hello, who, now)
            # Before it is asked what it could have been given: of cores it has as many as slots.
            self._resize(node, hello.slots, hello.window)
            declare(node, hello.info)
            keep = self._reclaim(node, hello)
        else:
            keep = self._relink(node, peer, hello)
            self._resize(node, hello.slots, hello.window)
            declare(node, hello.info)
        node.who = who
        node.draining = hello.window == 0 or bool(node.drain)
        node.lease_until = now + book.limits.lease
        book.fleet.enlist(node)
        book.fleet.update(node)
        self._welcome(node, keep)
        if node.drain:  # the order may have been lost with the old link
            book.send(peer, Drain(node.drain))
        # A cancellation that was on its way over the old link may be lost with it.
        for span in keep:
            cancelling = book.jobs[span.job].cancelling if span.job in book.jobs else ()
            again = [index for index in span.indices if index in cancelling]
            if again:
                book.send(peer, Cancel([Span(span.job, span.attempt, again)]))

    def received(self, node: Node, message: Message, now: float) -> None:
        """A message of a node that is in."""
        book = self._book
        # Whatever the node says shows that its main loop runs. A renewal may be stuck behind a large
        # result on a slow link.
        node.lease_until = now + book.limits.lease
        match message:
            case Results(seq, groups):
                node.last_result = now
                for group in groups:
                    self._outcomes.results(node, group)
                nbytes = sum(total(group.bodies) for group in groups)
                self._courtesy.acknowledge(node, seq, nbytes)
                book.fleet.update(node)
            case Renew(counter, slots, window):
                node.draining = window == 0 or bool(node.drain)
                self._resize(node, slots, window)
                book.send(node.peer, Lease(counter))
            case Returned(spans):
                self._returned(node, spans, now)
            case Need(digest):
                function = book.functions.get(digest)
                if function is not None:
                    book.send(node.peer, function)
            case Output():
                self._printed(node, message)
            case Want():
                self._exchange.wanted(node, message)
            case Unheard(owner):
                self._exchange.unheard(owner)
            case Event(kind, text, details):
                self._event(node, kind, text, details, now)
            case Ping(counter):
                book.send(node.peer, Pong(counter))
            case Pong():
                self._alive(node)
            case Bye(reason):
                self.condemn(node, reason or "it left", blame=False)
            case _:
                book.counters["unexpected_messages"] += 1

    def _event(self, node: Node, kind: str, text: str, details: dict[str, Any], now: float) -> None:
        """A node tells what people should know, as often as its key may."""
        book, ledger = self._book, node.ledger
        if ledger.take_event(now):
            book.note(node, kind, text, details, private=True)
            return
        book.counters["refused_events"] += 1
        if not ledger.muted:
            ledger.muted = True
            text = f"{ledger.title} sent too many events: more are dropped, some a second excepted"
            book.say(logging.WARNING, text)

    def _printed(self, node: Node, output: Output) -> None:
        """A task that the node runs has printed something; what others run is none of its business."""
        book = self._book
        span = Span(output.job, output.attempt, [output.index])
        if not any(self._outcomes.held(node, span)):
            book.counters["refused_output"] += 1
            return
        job = book.jobs[output.job]
        if job.options.durable and book.store.has_room(len(output.text)):
            book.record(TaskPrinted(output.job, output.attempt, output.index, output.text))

    def _returned(self, node: Node, spans: list[Span], now: float) -> None:
        """The node gives tasks back that it has not started."""
        book = self._book
        node.recalling = False
        for span in spans:
            for index in span.indices if node.stopping else ():
                node.stopped((span.job, span.attempt, index))
            for piece in self._outcomes.held(node, span):
                book.take_back(piece, node, started=False)
                book.counters["tasks_returned"] += piece.size
            self._orphans.returned(node, span)
        if not spans:
            node.recall_at = now + book.limits.lease / 100
        book.fleet.update(node)

    def link_closed(self, node: Node, now: float) -> None:
        """The node's link is gone: it has a short grace to come back over a new one."""
        book = self._book
        rival = self._rivals.pop(node.name, None)
        if rival is not None:
            self.condemn(node, "its link closed and another process took its name")
            self.hello(*rival, now)
            return
        if not node.linked:
            return
        node.linked = False
        node.back_by = min(node.lease_until, now + book.limits.link_grace)
        book.fleet.by_peer.pop(node.peer, None)
        book.forget(node.peer)
        book.fleet.update(node)
        book.timers.at(node.back_by, lambda at: self._unlinked_too_long(node, at))

    def suspected(self, row: int, boot_id: bytes, phi: float) -> None:
        """Heartbeats stay away: see whether the link stands. Nothing is taken from the node."""
        node = self._at(row, boot_id)
        if node is not None:
            if not node.phi:
                self._book.counters["suspicions"] += 1
                self._book.say(
                    logging.INFO,
                    f"node {node.name}: heartbeats stay away (phi {phi:.1f}); probing its link",
                )
            node.phi = phi
            if node.linked:
                self._book.send(node.peer, Ping(0))

    def calmed(self, row: int, boot_id: bytes) -> None:
        """Heartbeats are back."""
        node = self._at(row, boot_id)
        if node is not None:
            node.phi = 0.0

    def pressed(self, row: int, boot_id: bytes, level: str) -> None:
        """Its machine is short of memory, or kept busy by others, or is no longer."""
        node = self._at(row, boot_id)
        if node is None or node.pressure == level:
            return
        before, node.pressure = node.pressure, level
        self._book.fleet.update(node)
        if level == MEMORY:
            text = (
                f"less than {node.machine.reserve >> 20} MiB of memory are available on its machine; "
                "it gets nothing new while another node can take it"
            )
            self._book.note(node, "memory-short", text, {}, private=False)
        elif before == MEMORY:
            self._book.say(logging.INFO, f"node {node.name}: there is enough memory again")

    def stalled(self, seconds: float) -> None:
        """The broker was not there to hear: every lease is longer by that time."""
        for node in self._book.fleet:
            node.lease_until += seconds

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """Cut off the nodes whose keys are not let in any more, or not as nodes."""
        for node in list(self._book.fleet):
            if not node.who.key:
                continue
            who = known.get(node.who.key)
            if who is not None and who.works:
                node.who = who
                continue
            self._book.send(node.peer, Refused("revoked", f"the key {node.who.name} was revoked"))
            self._book.counters["keys_cut"] += 1
            self.condemn(node, f"its key {node.who.name} was revoked", blame=False)

    def condemn(self, node: Node, why: str, *, blame: bool = True) -> None:
        """Take everything from a node and forget it. What still comes from it is stale."""
        book = self._book
        if book.fleet.by_name.get(node.name) is not node:
            return
        node.linked = False
        held, precise = node.held, node.held <= node.slots
        twins.put_all_first(node)
        for chunk in list(node.holds):
            for piece in runs(chunk, node):
                if blame:
                    self._outcomes.blame(piece, node, why, precise)
                else:
                    book.take_back(piece, node)
        for job in node.knows:
            job.known_by.discard(node)
        self._orphans.forget(node)
        self._exchange.left(node)
        book.fleet.remove(node)
        node.ledger.nodes -= 1
        book.ledgers.tidy(node.ledger)
        self._fit_sessions()
        book.effects.append(Unwatch(node.row))
        book.forget(node.peer)
        book.counters["nodes_condemned" if blame else "nodes_left"] += 1
        book.say(
            logging.WARNING if blame else logging.INFO,
            f"node {node.name} is gone: {why}; {held} of its tasks are queued again",
        )

    # Coming in

    def _no_room(self) -> str:
        """Why no node can come in, whatever its key; empty if one can."""
        most = self._book.limits.nodes
        return "" if len(self._book.fleet) < most else f"the broker has {most} nodes, its most"

    def _join(self, peer: bytes, hello: WorkerHello, who: Identity, now: float) -> Node:
        book = self._book
        node = Node(peer, hello.node, hello.boot_id, book.fleet.free_row(), now)
        node.ledger = book.ledgers.of(who)
        node.ledger.nodes += 1
        book.fleet.add(node)
        book.counters["nodes_joined"] += 1
        book.timers.at(now + book.limits.lease, lambda at: self._lease_check(node, at))
        book.timers.at(now + book.limits.renew_interval, lambda at: self._silence_check(node, at))
        book.say(logging.INFO, f"node {node.name} joined with {hello.slots} slots")
        return node

    def _reclaim(self, node: Node, hello: WorkerHello) -> list[Span]:
        """A node from before the broker's start: take over what it runs.

        Only for a time after the start: what was queued since was never given to it. And only what
        it could have been given.
        """
        book = self._book
        keep: list[Span] = []
        if book.now - book.started >= book.limits.session_grace:
            book.counters["refused_attempts"] += sum(len(span.indices) for span in hello.holding)
            return []
        for span in hello.holding:
            job = book.jobs.get(span.job)
            if job is None:
                keep += self._adoptable(node, span)
                continue
            if span.attempt > MAX_CLAIM or not node.suits(job.kind):
                book.counters["refused_attempts"] += len(span.indices)
                continue
            kept = []
            for piece in [
                one
                for part in job.pieces(list(dict.fromkeys(span.indices)))
                for one in singles(part)
            ]:
                chunk, lo, _ = piece
                if chunk.states[lo] == State.QUEUED and chunk.attempts[lo] < span.attempt:
                    book.adopt(piece, node, span.attempt)
                    kept.append(piece.indices.start)
            job.withdraw(kept)
            keep.append(Span(span.job, span.attempt, kept))
        return [span for span in keep if span.indices]

    def _adoptable(self, node: Node, span: Span) -> list[Span]:
        """Attempts of a job that is not known: its client may still come back and want them."""
        book = self._book
        late = book.now - book.started >= book.limits.session_grace
        if late or span.job in book.kept or span.attempt > MAX_CLAIM:
            return []
        kept, unwanted = self._orphans.add(node, span)
        for other, part in unwanted:
            book.send(other.peer, Cancel([part]))
        return [kept] if kept.indices else []

    def _relink(self, node: Node, peer: bytes, hello: WorkerHello) -> list[Span]:
        """Settle the books on a new link: what the node says it holds, against what it got."""
        book = self._book
        if node.peer != peer:
            book.fleet.by_peer.pop(node.peer, None)
            book.forget(node.peer)
        node.peer = peer
        node.linked = True
        node.recalling = False
        node.functions.clear()
        for job in node.knows:
            job.known_by.discard(node)
        node.knows.clear()
        book.fleet.by_peer[peer] = node
        self._orphans.unlinked(node)
        twins.put_all_first(node)
        holding = _without_stopped(node, hello.holding)
        keep: list[Span] = []
        kept: set[tuple[str, int]] = set()
        for span in holding:
            if span.job not in book.jobs:
                keep += self._adoptable(node, span)
                continue
            indices = [
                index for piece in self._outcomes.held(node, span) for index in piece.indices
            ]
            if indices:
                keep.append(Span(span.job, span.attempt, indices))
                kept.update((span.job, index) for index in indices)
        for chunk in list(node.holds):
            for piece in runs(chunk, node):
                for offset, index in enumerate(piece.indices, piece.lo):
                    if (chunk.job.id, index) not in kept:
                        book.take_back(Piece(chunk, offset, offset + 1), node)
        return keep

    def _welcome(self, node: Node, keep: list[Span]) -> None:
        book = self._book
        key = secrets.token_bytes(32)
        book.effects.append(Watch(node.row, node.boot_id, key, node.machine))
        limits = book.limits
        book.send(
            node.peer,
            WorkerWelcome(
                PROTOCOL_VERSION,
                book.broker_id,
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
            self._book.counters["refused_names"] += 1
            self._book.send(
                rival[0],
                Refused(
                    "name-taken",
                    f"a living node is called {node.name} already; give this one another name",
                ),
            )

    def _resize(self, node: Node, slots: int, window: int) -> None:
        before = self._book.fleet.slots
        self._book.fleet.resize(node, slots, window)
        if self._book.fleet.slots != before:
            self._fit_sessions()

    def _fit_sessions(self) -> None:
        """The fleet has grown or shrunk: the limits of sessions bind, or no longer do."""
        book = self._book
        for session in book.sessions.values():
            if session.limit:
                session.fit(book.fleet.slots)
                book.unpark(session)

    # Time

    def _lease_check(self, node: Node, now: float) -> None:
        if self._book.fleet.by_name.get(node.name) is not node:
            return
        if now >= node.lease_until:
            self.condemn(node, "its lease ran out")
        else:
            self._book.timers.at(node.lease_until, lambda at: self._lease_check(node, at))

    def _silence_check(self, node: Node, now: float) -> None:
        """No renewal for two intervals: the link itself may say that the node is dead."""
        book = self._book
        if book.fleet.by_name.get(node.name) is not node:
            return
        interval = book.limits.renew_interval
        if node.linked and node.lease_until - now < book.limits.lease - 2 * interval:
            book.send(node.peer, Ping(0))
        book.timers.at(now + interval, lambda at: self._silence_check(node, at))

    def _unlinked_too_long(self, node: Node, now: float) -> None:
        if not node.linked and now >= node.back_by:
            self.condemn(node, "its link closed")

    def _at(self, row: int, boot_id: bytes) -> Node | None:
        node = self._book.fleet.by_row.get(row)
        return node if node is not None and node.boot_id == boot_id else None


def _without_stopped(node: Node, holding: list[Span]) -> list[Span]:
    """What a node holds that was not being stopped when its link broke: it drops the rest itself."""
    stopping = list(node.stopping)
    if not stopping:
        return holding
    gone = {attempt for attempt in stopping if node.stopped(attempt)}
    return [
        replace(
            span,
            indices=[i for i in span.indices if (span.job, span.attempt, i) not in gone],
        )
        for span in holding
    ]
