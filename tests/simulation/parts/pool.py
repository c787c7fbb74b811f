"""The simulated pool of a node: children that run tasks, die, and give back what they did not start.

It keeps the contract of `manyhands_worker.ipc.control_block`. A child claims a serial, then looks at the
limit. It never starts what lies above its claim at the time of `Claimed`.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.held_result import Ticket
from manyhands_shared.protocol.status import Status
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core import effects, events
from manyhands_worker.core.model import Batch
from manyhands_worker.ipc.control_block import NO_LIMIT, SETTLE_SECONDS
from simulation.parts.task_inputs import gone

if TYPE_CHECKING:
    from simulation.parts.base import NodeHost

_RAISED = Failure("ValueError", "as it was told to", bases=("ValueError", "Exception")).encode()
#: Tasks shorter than this may share a report.
_TINY = 0.001
_REPORT_TASKS = 6


#: How often a child that cannot borrow a result has asked the broker for it before.
_WANTED = 0.5
#: How often a result is held for its client, where the job allows it.
_HELD = 0.15


class LentResult:
    """A result that lies with a node until its client has it."""

    def __init__(self, pool: FakePool, body: bytes) -> None:
        self._pool = pool
        self._body = body
        self.nbytes = len(body)
        self.key, self.ticket = pool.lend(self)

    def admit(self, guest: str) -> None:
        """Its client may come for it, as anybody may here."""

    def payload(self) -> tuple[bytes, ...]:
        """The result itself."""
        return (self._body,)

    def free(self) -> None:
        """Lend it no more."""
        self._pool.lent.pop(self.ticket, None)


class Child:
    """One process, from its birth to its death."""

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        #: The bundle whose modules it has.
        self.bundle = b""
        #: The environment that it runs in.
        self.environment = b""
        #: Offset in the first batch of the task that comes next.
        self.at = 0
        self.claim = 0
        self.limit = NO_LIMIT
        self.busy = False
        self.asked = False
        #: How often a task of it has begun to wait for tasks; whether the node takes it that one does.
        self.loans = 0
        self.lends = False


class FakePool:
    """The narrow interface of `NodePool`, without processes."""

    def __init__(self, host: NodeHost, slots: int, rng: Random) -> None:
        self._host = host
        self._world = host.world
        self._random = rng
        self._chance = Random(host.boot_id)
        self._children: list[Child | None] = [None] * slots
        self._events: list[events.Event] = []
        #: Spare slots that are closed.
        self._closed: set[int] = set()
        self._made: set[bytes] = set()
        #: Results that clients may fetch, by ticket.
        self.lent: dict[bytes, LentResult] = {}

    def lend(self, result: LentResult) -> tuple[bytes, bytes]:
        """Lend a result; returns the key of its segment, and its ticket."""
        key = self._random.randbytes(16)
        ticket = Ticket(self._host.host_id, "lender", key, [result.nbytes]).encode()
        self.lent[ticket] = result
        return key, ticket

    def fetch(self, ticket: object) -> tuple[bytes, ...] | None:
        """What a client gets for a ticket."""
        result = self.lent.get(ticket) if isinstance(ticket, bytes) and self._living else None
        return None if result is None else result.payload()

    def take_events(self) -> list[events.Event]:
        """What has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def start(self, slot: int, batch: Batch) -> None:
        """Hand a batch to a slot's child."""
        child = self._children[slot]
        if child is not None:
            bundle = batch.rules.bundle
            assert child.bundle in (b"", bundle), "a child is to have modules of two bundles"
            assert batch.modules == (bundle.hex().encode()), "a task without its modules"
            child.bundle = bundle
            environment = batch.rules.environment
            assert environment in (b"", *self._made), "a task without its environment"
            assert child.environment in (b"", environment), "a child is to have two environments"
            child.environment = environment
            child.limit = NO_LIMIT
            child.batches.append(batch)
            if not child.busy:
                self._next(slot, child)

    def make(self, wanted: effects.MakeEnvironment) -> None:
        """Make an environment, and let others go. `EnvironmentMade` follows."""
        self._made &= wanted.keep

        def made() -> None:
            if not self._living:
                return
            if self._world.installer_fails():
                self._world.checker.environment_failed(self._host, wanted.environment)
                self._emit(events.EnvironmentMade(wanted.environment, "the index is away"))
                return
            self._made.add(wanted.environment)
            self._emit(events.EnvironmentMade(wanted.environment))

        self._world.after(self._random.uniform(0.001, 1.0), made)

    def revoke(self, slot: int, limit: int) -> None:
        """Have a slot start nothing from serial `limit` on. `Claimed` or `Died` follows."""
        child = self._children[slot]
        if child is not None:
            child.limit = limit
            self._world.after(SETTLE_SECONDS, lambda: self._settle(slot, child))

    def kill(self, slot: int) -> None:
        """Kill a slot's child, as the core wants. `Died` follows, then `Born`."""
        child = self._children[slot]
        if child is not None:
            child.asked = True
            self._world.after(0.001, lambda: self._die(slot, child, "it was killed"))

    def retire(self, slot: int) -> None:
        """Replace a child that has nothing left to do. `Born` follows."""
        self._stop_lending(slot)
        self._children[slot] = None
        self.bear(slot)

    def open_slot(self, slot: int) -> None:
        """Give a spare slot a child. `Born` follows."""
        self._children += [None] * (slot + 1 - len(self._children))
        self._closed.discard(slot)
        self.bear(slot)

    def close_slot(self, slot: int) -> None:
        """End a spare slot's child, which has nothing left to do."""
        self._stop_lending(slot)
        self._children[slot] = None
        self._closed.add(slot)

    def strike(self) -> None:
        """The system kills one of the children, busy or not."""
        slot = self._random.randrange(len(self._children))
        child = self._children[slot]
        if child is not None:
            self._die(slot, child, "it was shot")

    @property
    def _living(self) -> bool:
        return self._host.alive and self._host.pool is self

    def _emit(self, event: events.Event) -> None:
        self._events.append(event)
        self._host.wake(1e-4)

    def bear(self, slot: int) -> None:
        """Start a child for a slot. `Born` follows."""

        def birth() -> None:
            if not self._living or slot in self._closed or self._children[slot] is not None:
                return
            self._children[slot] = Child()
            self._emit(events.Born(slot))

        self._world.after(self._random.uniform(0.001, 0.05), birth)

    def _settle(self, slot: int, child: Child) -> None:
        if self._children[slot] is child:
            self._emit(events.Claimed(slot, child.claim))

    def _die(self, slot: int, child: Child, text: str) -> None:
        if self._children[slot] is not child or not self._living:
            return
        self._stop_lending(slot)
        self._children[slot] = None
        blamed = child.claim if child.busy and not child.asked else 0
        self._emit(events.Died(slot, child.claim, blamed, text, child.asked))
        self.bear(slot)

    def _next(self, slot: int, child: Child) -> None:
        """Start the next task, or the next few where they are tiny."""
        while child.batches:
            batch = child.batches[0]
            first = batch.first + child.at
            if first < child.limit:
                self._run(slot, child, batch, first)
                return
            rest = len(batch.indices) - child.at
            child.claim = first
            self._report(slot, child, batch, first, bytes([REVOKED]) * rest, [b""] * rest, 0.0)
        child.busy = False

    def _run(self, slot: int, child: Child, batch: Batch, first: int) -> None:
        plans = self._world.plan.jobs
        job, attempt = batch.key
        statuses, bodies = bytearray(), list[Payload]()
        spent, deadly = 0.0, False
        room = self._random.randint(1, _REPORT_TASKS)
        for index, body in zip(batch.indices[child.at :], batch.bodies[child.at :], strict=True):
            serial = first + len(statuses)
            if statuses and (spent > _TINY or len(statuses) >= room or serial >= child.limit):
                break
            child.claim = serial
            key, owner = gone(self._world, self._random, (job, index), body)
            if key:
                if self._random.random() < _WANTED:
                    self._emit(events.Wanted(key, owner))
                statuses.append(Status.INPUT_GONE)
                bodies.append(key)
                continue
            seconds, outcome = plans[job].behave(self._random)
            spent += seconds
            self._world.checker.executed(self._host, job, index, attempt, outcome)
            if outcome == "dies":
                deadly = True
                break
            statuses.append(Status.RAISED if outcome == "raises" else Status.OK)
            bodies.append(_RAISED if outcome == "raises" else f"{job}/{index}".encode())
        child.busy = True
        end = self._world.now + spent
        if self._chance.random() < plans[job].lends:
            self._wait_for_tasks(slot, child, spent)
        if deadly:
            self._world.at(end, lambda: self._die(slot, child, "killed by SIGSEGV"))
        else:
            self._world.at(
                end, lambda: self._done(slot, child, batch, first, bytes(statuses), bodies, spent)
            )

    def _wait_for_tasks(self, slot: int, child: Child, spent: float) -> None:
        """The task in a slot waits for tasks for some of its time. That is seen a while later."""
        begins = self._chance.uniform(0.0, spent)
        ends = self._chance.uniform(begins, spent + self._chance.choice((0.0, 1.0)))
        serial = child.claim

        def begin() -> None:
            if self._children[slot] is child and self._living:
                child.loans += 1
                child.lends = True
                loan = child.loans
                self._emit(events.Lends(slot, on=True, serial=serial))
                self._world.after(ends - begins, lambda: end(loan))

        def end(loan: int) -> None:
            if child.loans == loan and self._children[slot] is child and self._living:
                self._stop_lending(slot)

        self._world.after(begins, begin)

    def _stop_lending(self, slot: int) -> None:
        child = self._children[slot]
        if child is not None and child.lends:
            child.lends = False
            self._emit(events.Lends(slot, on=False))

    def _done(
        self,
        slot: int,
        child: Child,
        batch: Batch,
        first: int,
        statuses: bytes,
        bodies: list[Payload],
        spent: float,
    ) -> None:
        if self._children[slot] is child and self._living:
            if self._world.now < self._host.paused_until:  # stopped with its node
                self._world.at(
                    self._host.paused_until,
                    lambda: self._done(slot, child, batch, first, statuses, bodies, spent),
                )
                return
            self._report(slot, child, batch, first, statuses, bodies, spent)
            self._next(slot, child)

    def _report(
        self,
        slot: int,
        child: Child,
        batch: Batch,
        first: int,
        statuses: bytes,
        bodies: list[Payload],
        spent: float,
    ) -> None:
        child.at += len(statuses)
        if child.at == len(batch.indices):
            child.batches.popleft()
            child.at = 0
        bodies, sorts, held = [*bodies], bytearray(statuses), []
        for place, status in enumerate(statuses):
            if batch.rules.direct and status == Status.OK and self._random.random() < _HELD:
                held.append(LentResult(self, bytes(bodies[place])))
                bodies[place], sorts[place] = held[-1].ticket, Status.HELD
        nbytes = sum(map(len, bodies))
        self._emit(
            events.Finished(
                slot, first, bytes(sorts), bodies, spent, nbytes, held_results=tuple(held)
            )
        )
