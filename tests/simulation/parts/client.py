"""The simulated client: the real session core, and what a program on top of it does."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from manyhands._session import Session
from manyhands._session import effects as e
from manyhands._session import events as t
from manyhands._session.inputs.input_refs import StoredPayload, largest
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from simulation import broken
from simulation.parts.base import HOSTS, Peer
from simulation.parts.task_inputs import InputChooser

if TYPE_CHECKING:
    from simulation.plan import JobPlan
    from simulation.world import World

_FLUSHES = 4
#: How often a node that lends a result cannot be reached.
_UNREACHABLE = 0.2
#: In how many parts a result comes: mapped on the same host it is one.
_PARTS = (1, 1, 2, 4)


class Client(Peer):
    """One program with one session, which watches its durable jobs; the session sees to that."""

    def __init__(self, world: World, name: str, limit: int = 0) -> None:
        super().__init__(world, name)
        self.session = Session(
            self.random.randbytes(16),
            name=name,
            limit=limit,
            info={"host_id": self.random.choice(HOSTS)},
        )
        broken.harm_client(world.harm, self.session)
        #: Keys of the values that it keeps for its tasks.
        self.values = [self.random.randbytes(16) for _ in range(3)]
        #: Durable jobs whose acceptance it heard of.
        self.follows: set[str] = set()
        self._inputs = InputChooser(world, name)
        self._orders: list[t.Event] = []
        self._appended: Counter[str] = Counter()
        #: Whether it was never killed.
        self.left_in_peace = True

    def start(self) -> None:
        """Start the process."""
        self.alive = True
        self.link = self.world.network.open(self, 0.0)
        self.wake(0.0)

    def crash(self) -> None:
        """kill -9; it does not come back."""
        if self.alive:
            self.world.tell(self, "is killed")
            self.left_in_peace = False
            self.halt()

    def payload(self, job: JobPlan) -> bytes:
        """Arguments of a task, which may refer to values of ours if the task needs us anyway."""
        if job.durable or self.random.random() < 0.5:
            return b"args"
        payload = StoredPayload(b"args")
        values = self.random.sample(self.values, self.random.choice((1, 1, 2)))
        payload.inputs = largest((key, 20 << 20) for key in values)
        return payload

    def order(self, event: t.Event) -> None:
        """What the user does."""
        if self.alive:
            self._orders.append(event)
            self.wake(0.0)

    def turn(self) -> None:
        """Once round the loop of `manyhands._io.io_thread`."""
        news, self._news = self._news, []
        session = self.session
        for what in news:
            if what == "up":
                self._handle(t.LinkUp())
            elif session.state is not t.State.CONNECTING:
                self._handle(t.LinkLost())
                break
            else:
                self._relink()
                break
        inbox, self._inbox = self._inbox, []
        link = self.link
        for message in inbox:
            if self.alive and self.link is link:
                self._receive(message)
        self._do_orders()
        if session.deadline is not None and self.clock() >= session.deadline:
            self._handle(t.Tick())
        for _ in range(_FLUSHES):
            if not session.wants_flush:
                break
            self._handle(t.Flush())
        if session.wants_flush:
            self.wake(0.0)
        if session.state is t.State.CLOSED:
            self.halt(lingers=True)
        else:
            self.wake_by(session.deadline)

    def _do_orders(self) -> None:
        orders, self._orders = self._orders, []
        for order in orders:
            if self._comes_too_late(order):
                continue
            if not isinstance(order, t.Append):
                self._handle(order)
                continue
            bound, more = self._inputs.bind(self.session, order)
            self._handle(bound)
            for event in more:
                self.world.after(self.random.random(), partial(self.order, event))

    def _receive(self, message: m.Message) -> None:
        seen = self.session._results.last_seq
        subscribed = set(self.session._subscriptions)
        self._handle(t.Received(message))
        if isinstance(message, m.Results) and self.session._results.last_seq > seen:
            for group in message.groups:
                if group.job in subscribed:
                    self.world.checker.read(self, group)
        elif isinstance(message, m.Accepted) and self.session.state is t.State.OPEN:
            for count in message.jobs:
                if self.world.plan.jobs[count.job].durable:
                    self.world.checker.acknowledged(count.job, count.tasks)
                    self.follows.add(count.job)

    def _comes_too_late(self, order: t.Event) -> bool:
        """Whether tasks are added to a job that the broker has turned down and the session closed."""
        if not isinstance(order, t.Append):
            return False
        job = self.session._jobs._jobs.get(order.job)
        if job is None or job.closed:
            self.world.checker.turned_down(self, order.job, self._appended[order.job])
            return True
        self._appended[order.job] += len(order.bodies)
        return False

    def _handle(self, event: t.Event) -> None:
        effects = self.session.handle(event, self.clock())
        if self.inspect():
            self.session.validate()
        for effect in effects:
            self._do(effect)

    def _do(self, effect: e.Effect) -> None:
        match effect:
            case e.Send(message):
                self._say(message)
            case e.Numbered(job, first, count):
                self.world.checker.numbered(self, job, first, count)
            case e.JobOver(job):
                self.world.checker.job_over(self, job)
            case e.Deliver(job, indices, statuses, bodies):
                whole: list[Payload] = [
                    b"".join(body) if isinstance(body, tuple) else body for body in bodies
                ]
                self.world.checker.delivered(self, job, indices, statuses, whole)
                for index, status, body in zip(indices, statuses, whole, strict=True):
                    self._inputs.ended(job, index, status, body)
            case e.Fetch():
                self._fetch_later(effect, self.random.choice(_PARTS))
            case e.Supply(key):  # or it has been let go by now
                bodies = [b"value"] if self.random.random() < 0.8 else []
                self._say(m.Stock(key, bodies))
            case e.Relink():
                self._relink()
            case e.Failed(code, reason):
                raise AssertionError(f"{self.name} is refused: {code}: {reason}")

    def _fetch_later(self, wanted: e.Fetch, parts: int) -> None:
        delay = self.random.uniform(0.0001, 0.2)
        self.world.after(delay, lambda: self._fetch(wanted, parts))

    def _fetch(self, wanted: e.Fetch, parts: int) -> None:
        """Fetch the next part of a result from whichever node lends it.

        The node may have died or dropped it since the part before; and sometimes it fails for no reason.
        """
        found = [node.pool.fetch(wanted.ticket) for node in self.world.nodes if node.pool]
        payload = next((payload for payload in found if payload is not None), None)
        if self.random.random() < _UNREACHABLE:
            payload = None
        if payload is not None and parts > 1:
            self._fetch_later(wanted, parts - 1)
            return
        self.order(t.Fetched(wanted.job, wanted.attempt, wanted.index, wanted.ticket, payload))

    def _say(self, message: m.Message) -> None:
        if self.link is not None:
            self.link.to_broker(message)

    def _relink(self) -> None:
        self._drop_link()
        self.link = self.world.network.open(self, 0.0)


def is_rejection(body: object) -> bool:
    """Whether a failure says that the broker did not take the task."""
    return isinstance(body, bytes) and "Submit" in Failure.decode(body).type
