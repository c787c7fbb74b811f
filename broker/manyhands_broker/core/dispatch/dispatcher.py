"""Who gets what: queued tasks to nodes, and unstarted tasks back from nodes that are behind."""

from __future__ import annotations

import math

from manyhands_broker.core.dispatch.placement import Placer
from manyhands_broker.core.dispatch.stragglers import Speculator
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import SPILLED, Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.requirements import Kind
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.peers.task_inputs import TaskInputs
from manyhands_broker.core.state import twins
from manyhands_broker.core.store import Damaged
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.messages import Assign, AssignGroup, Given, Results

#: Tasks that are given out in one drain. If a large fleet came to a long queue, more would keep the
#: first node waiting for the last, and clients for all.
DRAIN_TASKS = 32_768
#: A payload that the journal has lost altogether.
_MISSING = Damaged("its arguments are not in the broker's journal any more")
#: Between two checks of jobs that no node could ever run.
RECHECK_SECONDS = 1.0
#: What a frame costs in a message beside its bytes, in bytes: the number of frames is bounded as well.
FRAME_COST = 512
#: What giving out a group costs beside its tasks, in tasks.
GROUP_COST = 64


class Dispatcher:
    """Runs once for each drain."""

    def __init__(
        self,
        transitions: Transitions,
        durable: Durable,
        placer: Placer,
        standings: Standings,
        task_inputs: TaskInputs,
    ) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._placer = placer
        self._durable = durable
        self._standings = standings
        self._task_inputs = task_inputs
        self._speculator = Speculator(transitions.state)
        self._recall_due = self._stall_due = False
        self._next_recheck = 0.0

    def run(self, now: float) -> None:
        """Give out what can be given, level what is uneven, send clients their results."""
        if self._state.queued and self._assign():
            # Nodes whose turn has not come yet are not idle for want of tasks.
            self._soon()
        else:
            if self._state.overdue:
                self._speculate(now)
            if self._state.fleet.uneven:
                self._level(now)
        if self._state.fleet.crowded and not self._stall_due:
            self._stall_due = True
            self._state.timers.at(now + self._state.limits.stalled_after, self._look_for_waiting)
        if self._state.readers or self._state.unwritten:
            self._durable.page()
        self._report()
        if self._state.readers and self._durable.reading:
            self._soon()

    def read(self) -> None:
        """Send readers what is written; all else waits."""
        state = self._state
        for session in self._durable.page_written():
            state.reporting.pop(session, None)
            while (message := session.next_message()) is not None:
                state.send(session.peer, Results(*message))

    def _assign(self) -> bool:
        """Give out tasks; return whether there may be more to give out at once."""
        state, fleet, ready = self._state, self._state.fleet, self._state.ready
        groups: dict[Node, list[AssignGroup]] = {}
        sizes: dict[Node, int] = {}
        stuck = self._unsatisfiable()
        left = DRAIN_TASKS
        while left > 0 and state.queued and (job := ready.next(stuck)) is not None:
            try:
                if job.referring:
                    node, count = self._placer.place(job) or (None, 0)
                else:
                    node = fleet.pick(job)
                    count = fleet.amount(node, job, state.queued) if node is not None else 0
                if node is None or not count:
                    stuck.add(job.kind)
                    continue
                session = job.session
                if session.cap:
                    count = min(count, session.cap - session.active)
                given, size = self._give(job, node, count, groups)
            except Exception as error:  # noqa: BLE001 - reported; it ends this job
                state.breakdowns.of(error, job)
                # Not again in this drain, behind which the job ends.
                job.ready.clear()
                continue
            sizes[node] = sizes.get(node, 0) + size
            if sizes[node] >= state.limits.batch_bytes:
                del sizes[node]
                state.send(node.peer, Assign(groups.pop(node)))
            ready.charge(job, given * job.expected(state.limits.unmeasured))
            fleet.update(node)
            left -= given + GROUP_COST
        for node, parts in groups.items():
            state.send(node.peer, Assign(parts))
        return left <= 0

    def _unsatisfiable(self) -> set[Kind]:
        """Return the kinds to pass over: no node could ever run them. Now and then, return none.

        For the queue forgets jobs that are over when it comes upon them.
        """
        fleet, now = self._state.fleet, self._state.now
        fleet.renewals = 0
        if now < self._next_recheck:
            return set(fleet.unsatisfiable)
        self._next_recheck = now + RECHECK_SECONDS
        return set()

    def _give(
        self, job: Job, node: Node, count: int, groups: dict[Node, list[AssignGroup]]
    ) -> tuple[int, int]:
        """Give a node up to `count` tasks of a job; return how many, and their payloads' bytes."""
        state = self._state
        each = job.expected(state.limits.unmeasured)
        given = size = 0
        while given < count and size < state.limits.batch_bytes:
            piece = job.take(count - given)
            if piece is None:
                break
            if piece.chunk.results and (piece := self._task_inputs.there(piece)) is None:
                continue
            fitting = self._fitting(job, piece, size)
            if fitting is None:
                self._lose(job, piece)
                continue
            piece, bodies, part = fitting
            options = self._introduce(job, node)
            attempt = self._transitions.assign(piece, node, each)
            size += part
            given += piece.size
            group = AssignGroup(job.id, attempt, job.function, options, list(piece.indices), bodies)
            groups.setdefault(node, []).append(group)
        return given, size

    def _speculate(self, now: float) -> None:
        """Give slow tasks to a second node: slots are left."""
        state = self._state
        for piece, node in self._speculator.choose(now):
            job = piece.chunk.job
            each = state.limits.unmeasured if job.estimate is None else job.estimate
            try:
                fitting = self._fitting(job, piece, 0)
            except Exception as error:  # noqa: BLE001 - reported; it ends this job
                state.breakdowns.of(error, job)
                continue
            if fitting is None:
                # The run that goes on is its last.
                continue
            _, bodies, _ = fitting
            for item in piece.chunk.inputs.get(piece.lo, ()):
                item.comes_to(node)
            attempt = twins.give(state, piece, node, each)
            options = self._introduce(job, node)
            group = AssignGroup(job.id, attempt, job.function, options, list(piece.indices), bodies)
            state.send(node.peer, Assign([group]))

    def _fitting(
        self, job: Job, piece: Piece, size: int
    ) -> tuple[Piece, list[Payload], int] | None:
        """Return the first tasks of `piece` that keep a message below its size, at least one.

        `None` if the payload of one of them is lost.
        """
        chunk, lo, hi = piece
        limit = self._state.limits.batch_bytes
        bodies: list[Payload] = chunk.payloads[lo:hi]  # type: ignore[assignment]
        if SPILLED in bodies:
            found = self._unspill(job, piece, bodies)
            if any(type(body) is Damaged for body in found):
                return None
            bodies = found  # type: ignore[assignment]
        if chunk.results:
            given = self._task_inputs.given(piece, bodies)
            if given is None:
                return None
            bodies = given
        if set(map(type, bodies)) == {bytes}:
            part = sum(map(len, bodies))
            if size + part <= limit:
                return piece, bodies, part
        part = 0
        for place, body in enumerate(bodies):
            part += nbytes(body) + (FRAME_COST * len(body) if type(body) is tuple else 0)
            if size + part >= limit and place + 1 < len(bodies):
                job.ready.appendleft((chunk.base + lo + place + 1, chunk.base + hi))
                return Piece(chunk, lo, lo + place + 1), bodies[: place + 1], part
        return piece, bodies, part

    def _unspill(
        self, job: Job, piece: Piece, bodies: list[Payload]
    ) -> list[Payload] | list[Payload | Damaged]:
        # Those that came in this drain are not in the store yet, nor do they need to be.
        first = piece.indices.start
        spilled = [place for place, body in enumerate(bodies) if body is SPILLED]
        low, high = spilled[0], spilled[-1] + 1
        stored = self._state.store.bodies(job.id, first + low, first + high)
        stored += [_MISSING] * (high - low - len(stored))
        return [
            stored[place - low] if body is SPILLED else body for place, body in enumerate(bodies)
        ]

    def _lose(self, job: Job, piece: Piece) -> None:
        """End those of these tasks whose payloads are lost; the others are in line again."""
        chunk, lo, hi = piece
        bodies: list[Payload] = chunk.payloads[lo:hi]  # type: ignore[assignment]
        found = self._unspill(job, piece, bodies)
        lost: dict[str, list[Piece]] = {}
        for offset, body in enumerate(found, lo):
            if isinstance(body, Damaged):
                lost.setdefault(body.reason, []).append(Piece(chunk, offset, offset + 1))
        job.put_back(piece)
        for reason, pieces in lost.items():
            self._durable.lose(job, pieces, reason)

    def _introduce(self, job: Job, node: Node) -> dict[str, object] | None:
        """Send function and bundle that the node has not got; the options if they are new to it."""
        state = self._state
        if node in job.known_by:
            return None
        if job.id in node.over:
            # Another job had this id: what comes next is of this one.
            self._transitions.tell_over(node)
        job.known_by.add(node)
        node.knows.add(job)
        for digest in job.digests:
            function = state.functions.get(digest) if digest not in node.functions else None
            if function is not None:
                node.functions.add(digest)
                state.send(node.peer, function)
        if job.given:
            state.send(node.peer, Given(job.id, job.given))
        if job.options_map is None:
            job.options_map = job.options.to_map()
        return job.options_map

    def _soon(self) -> None:
        """Go on in a drain of its own, after what has come in the meantime."""
        self._state.timers.at(math.nextafter(self._state.now, math.inf), _nothing)

    def _level(self, now: float) -> None:
        """Ask nodes for half of what waits there, as a slot idles elsewhere."""
        state = self._state
        for node in list(state.fleet.overloaded(now)):
            state.recall(node, (node.active - node.slots + 1) // 2)
        if not self._recall_due:
            # Come back soon: a node may turn out to be slow without saying anything.
            self._recall_due = True
            state.timers.at(now + state.limits.recall_after, self._look_again)

    def _look_again(self, _now: float) -> None:
        self._recall_due = False

    def _look_for_waiting(self, now: float) -> None:
        """Ask for what waits behind long tasks, or for what others need not make."""
        self._stall_due = False
        fleet = self._state.fleet
        for node in fleet.stall(now):
            self._state.recall(node, node.active - node.slots)
        for node, count in list(fleet.waiting_for_environments(now)):
            self._state.recall(node, count)

    def _report(self) -> None:
        state = self._state
        if state.tried_tasks:
            self._standings.report()
        while state.reporting:
            session, _ = state.reporting.popitem()
            while (message := session.next_message()) is not None:
                state.send(session.peer, Results(*message))


def _nothing(_now: float) -> None:
    """Do nothing: there is another drain soon."""
