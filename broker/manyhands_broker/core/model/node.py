"""A node as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manyhands_broker.core.model.chunk import Chunk, Piece
from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.machine import Machine
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.requirements import Kind, Needs, Resources
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.labels import ENVIRONMENTS, is_environment
from manyhands_shared.protocol.messages import RunGroup

UNBOUNDED = 1 << 60

#: Environments that a node is believed to have made.
_MOST_MADE = 256


class Node:
    """One incarnation of a node: one boot id, from its hello until it says bye or is condemned."""

    __slots__ = (
        "able",
        "active",
        "assigned",
        "back_by",
        "boot_id",
        "done",
        "drain",
        "draining",
        "failing",
        "free",
        "functions",
        "held_results",
        "host_id",
        "info",
        "joined",
        "knows",
        "labels",
        "last_result",
        "lease_until",
        "ledger",
        "lent",
        "linked",
        "load",
        "loads",
        "machine",
        "made",
        "making",
        "name",
        "over",
        "peer",
        "phi",
        "pressure",
        "recall_at",
        "recalling",
        "resources",
        "row",
        "running",
        "slots",
        "stalled",
        "stopping",
        "suspects",
        "tier",
        "twins",
        "who",
        "window",
    )

    def __init__(self, peer: bytes, name: str, boot_id: bytes, row: int, now: float) -> None:
        self.peer = peer
        self.name = name
        self.boot_id = boot_id
        self.row = row
        #: By whose key it came.
        self.who: Identity = ANYBODY
        self.ledger = Ledger()
        self.joined = now
        self.info: dict[str, Any] = {}
        #: Equal to a session's if it can borrow that session's stored values; empty if it cannot.
        self.host_id = ""
        self.slots = 0
        #: When it told what runs there, and that: of tasks that run for a while, for people alone.
        self.running: tuple[float, list[RunGroup]] = (now, [])
        self.window = 0
        self.linked = True
        #: Until when an unlinked node may come back.
        self.back_by = now
        self.draining = False
        #: Why an operator wants it drained; empty if none does.
        self.drain = ""
        self.lease_until = now
        self.last_result = now
        #: Tasks that wait or run here.
        self.active = 0
        #: All tasks that are assigned to it, by chunk.
        self.assigned: dict[Chunk, int] = {}
        #: Those of them, by chunk and offset, that have run and whose results lie here for clients.
        #: What the client was told of each: its ticket.
        self.held_results: dict[tuple[Chunk, int], Payload] = {}
        #: Of the tasks that wait or run here, those whose attempt here is the twin of another.
        self.twins: set[tuple[Job, int]] = set()
        #: Attempts that are not wanted any more, until the node says that they are over: job id,
        #: attempt, index → what they take.
        self.stopping: dict[tuple[str, int, int], Resources] = {}
        #: Seconds of work here, by the estimates of the time of assignment; and its parts: job →
        #: [tasks, seconds each].
        self.load = 0.0
        self.loads: dict[Job, list[float]] = {}
        #: Tasks here that are suspected of having ended a node: no others wait behind them.
        self.suspects = 0
        #: Digests of the functions that the node has been sent.
        self.functions: set[bytes] = set()
        #: Jobs whose options it has been sent over this link.
        self.knows: set[Job] = set()
        #: Jobs that it knew and that are over; it has not been told yet.
        self.over: dict[str, None] = {}
        #: Whether an answer to `Recall` is due.
        self.recalling = False
        #: When it may be asked again, after it had nothing to give.
        self.recall_at = now
        #: Whether all its slots are in long tasks, by its silence: no others wait behind these.
        self.stalled = False
        self.phi = 0.0
        #: What its machine is like, and what it is under by its heartbeats: see `machine`.
        self.machine = Machine()
        self.pressure = ""
        #: Whether it takes tasks as others do, and in which order: the fleet's own notes.
        self.able = False
        self.tier: int | None = None
        self.done = 0
        #: What the node has by name, and what of it no task takes.
        self.resources: dict[str, float] = {}
        self.free: dict[str, float] = {}
        #: Tasks here that wait for tasks: they take nothing of it meanwhile.
        self.lent: set[tuple[Job, int]] = set()
        #: What it is like; `None` if it does not say, and is trusted with everything.
        self.labels: Needs | None = None
        #: The labels of environments that it makes just now, of those that it has made, and of those
        #: that it could not make lately.
        self.making: Needs = frozenset()
        self.made: Needs = frozenset()
        self.failing: Needs = frozenset()

    @property
    def state(self) -> str:
        """For people: ready, suspected or draining."""
        if self.draining:
            return "draining"
        return "suspected" if self.phi or not self.linked else "ready"

    def equip(self, resources: dict[str, float]) -> None:
        """Take over what the node says it has; `cpus` are its slots unless it says otherwise."""
        self.resources = {"cpus": float(self.slots), **resources}
        self.free = dict(self.resources)
        self.lent.clear()
        for chunk, count in self.assigned.items():
            self._take(chunk.job, count)
        for chunk, _ in self.held_results:
            self._take(chunk.job, -1)
        for taken in self.stopping.values():
            self._occupy(taken, 1)

    def lend(self, tasks: set[tuple[Job, int]]) -> None:
        """Count what these of its tasks take as free, and nothing that others take.

        What is lent may be taken twice for a while: a task that waits no more has it back at once.
        """
        for job, _ in self.lent - tasks:
            self._take(job, 1)
        for job, _ in tasks - self.lent:
            self._take(job, -1)
        self.lent = tasks

    def tell_environments(self, making: Needs, failing: Needs) -> None:
        """Take over which environments it makes now, and which it could not make lately."""
        made = self.making - making - failing
        # What it needs no more it lets go. To believe too little of it costs only time.
        self.made = made if len(self.made) >= _MOST_MADE else (self.made | made) - failing
        self.making, self.failing = making, failing

    def meets(self, needs: Needs) -> bool:
        """Return whether it has the labels that tasks need, or can make the environment."""
        labels = self.labels
        if labels is None or needs <= labels:
            return True
        return ENVIRONMENTS in labels and all(map(is_environment, needs - labels))

    def takes(self, needs: Needs) -> bool:
        """Return whether it has them now, and does not make the environment still."""
        return self.meets(needs) and self.making.isdisjoint(needs)

    def fails(self, needs: Needs) -> bool:
        """Return whether it could not make the environment lately."""
        return not self.failing.isdisjoint(needs)

    def fits(self, resources: Resources) -> int:
        """Return how many tasks that take `resources` each could start now; without any, no bound."""
        return min(
            (_times(self.free.get(name, 0.0), need) for name, need in resources), default=UNBOUNDED
        )

    def could(self, resources: Resources) -> bool:
        """Return whether such a task could ever run here."""
        return all(self.resources.get(name, 0.0) >= need for name, need in resources)

    def suits(self, kind: Kind) -> bool:
        """Return whether a task of a kind could ever run here."""
        return self.meets(kind.needs) and self.could(kind.resources)

    def gain(self, piece: Piece, each: float) -> None:
        """Count tasks that were assigned here, of about `each` seconds."""
        count = piece.size
        self.active += count
        self.assigned[piece.chunk] = self.assigned.get(piece.chunk, 0) + count
        if piece.chunk.job.resources:
            self._take(piece.chunk.job, count)
        entry = self.loads.get(piece.chunk.job)
        if entry is None:
            self.loads[piece.chunk.job] = [count, each]
            self.load += count * each
        else:
            self.load += (entry[0] + count) * each - entry[0] * entry[1]
            entry[0] += count
            entry[1] = each

    def lose(self, piece: Piece) -> None:
        """Count tasks that are no longer here."""
        chunk = piece.chunk
        left = self.assigned[chunk] - piece.size
        if left:
            self.assigned[chunk] = left
        else:
            del self.assigned[chunk]
        if not self.held_results:
            self._relieve(chunk.job, piece.indices)
            return
        working = self._working(piece)
        self._relieve(chunk.job, working)
        chunk.job.session.held_results -= piece.size - len(working)
        for offset in range(piece.lo, piece.hi):
            self.held_results.pop((chunk, offset), None)

    def hold_result(self, piece: Piece, ticket: Payload) -> None:
        """Count a task that has run, and whose result lies here until its client has it."""
        working = self._working(piece)
        self.held_results[piece.chunk, piece.lo] = ticket
        piece.chunk.job.session.held_results += len(working)
        self._relieve(piece.chunk.job, working)

    def stop(self, attempt: tuple[str, int, int], resources: Resources) -> None:
        """Count an attempt as here, of a task that is no longer, until it is over."""
        self.stopping[attempt] = resources
        self.active += 1
        self._occupy(resources, 1)

    def stopped(self, attempt: tuple[str, int, int]) -> bool:
        """Count a stopped attempt as over; return false if it was not waited for."""
        resources = self.stopping.pop(attempt, None)
        if resources is None:
            return False
        self.active -= 1
        self._occupy(resources, -1)
        return True

    def _working(self, piece: Piece) -> list[int]:
        chunk = piece.chunk
        offsets = range(piece.lo, piece.hi)
        return [chunk.base + o for o in offsets if (chunk, o) not in self.held_results]

    def _relieve(self, job: Job, indices: Sequence[int]) -> None:
        """Count these tasks out: they take neither time nor resources any more."""
        count = len(indices)
        if not count:
            return
        self.active -= count
        if self.lent:
            self.lend(self.lent.difference((job, index) for index in indices))
        if job.resources:
            self._take(job, -count)
        entry = self.loads[job]
        entry[0] -= count
        self.load -= count * entry[1]
        if not entry[0]:
            del self.loads[job]
        if not self.active:
            # What rounding left.
            self.load = 0.0
            if job.resources:
                self.free = dict(self.resources)
        if self.suspects:
            self.suspects -= sum(index in job.suspects for index in indices)

    def _take(self, job: Job, count: int) -> None:
        self._occupy(job.resources, count)

    def _occupy(self, resources: Resources, count: int) -> None:
        for name, need in resources:
            self.free[name] = self.free.get(name, 0.0) - need * count


def _times(free: float, need: float) -> int:
    # A hair of tolerance: three tenths, taken and given back, are not quite three tenths.
    return UNBOUNDED if not need else int((free + 1e-9 * need) / need)
