"""A simulated world: parts, network, disk and faults, all driven by one seed.

Time is a number, and everything that happens stands in one heap. So a run of a minute takes some
milliseconds, and two runs of one seed are the same to the last message.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from manyhands._session import events as t
from simulation import faults
from simulation import plan as plans
from simulation.checks.checker import Checker
from simulation.parts.base import Peer
from simulation.parts.broker import Broker
from simulation.parts.client import Client
from simulation.parts.disk import Disk
from simulation.parts.network import Network
from simulation.parts.node import NodeHost
from simulation.story import Story

#: Simulated seconds after the last fault by which everything has ended; and which it takes to tidy up.
PATIENCE = 150.0
#: Events after which a run is taken for one that never comes to rest.
_MAX_EVENTS = 400_000


class World:
    """One run.

    Args:
        seed: decides everything.
        harm: the name of a deliberate fault of the software itself; see `broken`.
        story: where to write down what happens.
    """

    def __init__(self, seed: int, harm: str = "", story: Story | None = None) -> None:
        self.seed = seed
        self.harm = harm
        self.now = 0.0
        self.random = Random(seed)
        self.check_every = self.random.choice((1, 10, 30, 100, 100, 100))
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = 0
        self._story = story
        self.healed = False
        self.plan = plans.draw(self.random, Random(f"{seed}/speculation"))
        # Of its own, for it came later than the seeds: see `plans.draw`.
        self._installers = Random(f"{seed}/installers")
        self._failing_installs = self._installers.choice((0.0, 0.0, 0.0, 0.3, 1.0))
        self.checker = Checker(self)
        self.network = Network(self, self.random)
        self.broker: Broker = Broker(self, self.plan.limits, Disk())
        self.network.broker = self.broker
        self.nodes = [NodeHost(self, f"n{i}", slots) for i, slots in enumerate(self.plan.slots)]
        self.clients = [Client(self, f"c{i}", limit) for i, limit in enumerate(self.plan.clients)]

    def installer_fails(self) -> bool:
        """Whether an environment cannot be made this time."""
        return self._installers.random() < self._failing_installs

    # Time

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have `call()` called once it is `when`."""
        self._ties += 1
        heapq.heappush(self._heap, (when, self._ties, call))

    def after(self, delay: float, call: Callable[[], None]) -> None:
        """Have `call()` called in `delay` seconds."""
        self.at(self.now + delay, call)

    def tell(self, who: object, what: str, *parts: object) -> None:
        """A line of the story, `what` being a format; it becomes text only if there is a reader."""
        if self._story is not None:
            self._story.add(self.now, who, what.format(*parts))

    def run(self) -> None:
        """The whole run.

        Raises:
            AssertionError: something is not as it must be.
        """
        self._begin()
        self._until(lambda: False, self.plan.heal)
        self._heal()
        self._until(self.checker.settled, self.now + PATIENCE)
        self.checker.judge_clients()
        reader = self._read_back()
        self._until(self.checker.all_read, self.now + PATIENCE)
        self.checker.judge_reader()
        self._leave([*self.clients, reader])
        self.checker.judge_remains()

    def _until(self, done: Callable[[], bool], deadline: float) -> None:
        heap, pop = self._heap, heapq.heappop
        turns = 0
        while heap and heap[0][0] <= deadline:
            when, _, call = pop(heap)
            self.now = max(self.now, when)
            call()
            turns += 1
            if not turns & 15 and done():
                return
            assert turns < _MAX_EVENTS, "it never comes to rest"
        if not done():
            self.now = max(self.now, deadline)

    # The run

    def _begin(self) -> None:
        self.broker.start()
        for client in self.clients:
            client.start()
        for part in self.nodes:
            self.after(self.random.random() * 0.2, part.start)
        for job in self.plan.jobs.values():
            self._schedule(job)
        for when, kind in self.plan.faults:
            self.at(when, partial(self._fault, kind))

    def _schedule(self, job: plans.JobPlan) -> None:
        client = self.clients[job.client]
        self.checker.planned(client, job)

        def open_it(count: int) -> None:
            parent = job.options.after
            if parent and parent[0] not in client.follows:
                if client.alive:
                    self.after(0.5, lambda: open_it(count))
                return
            client.order(t.AddJob(job.id, job.function, job.options.to_map(), code=job.code))
            append(count)
            for when, more in job.arrivals[1:]:
                self.at(max(when, self.now), partial(append, more))
            for when, wanted in job.cancels:
                self.at(max(when, self.now), partial(cancel, wanted))
            last = max(
                self.now, job.arrivals[-1][0], *(when for when, _ in job.cancels), job.closes
            )
            self.at(last, close)

        def append(count: int) -> None:
            if client.alive and not job.doomed:
                self.checker.submitted(client, job, count)
                client.order(t.Append(job.id, [client.payload(job) for _ in range(count)]))

        def cancel(wanted: list[int] | None) -> None:
            if client.alive and not job.doomed:
                job.doomed = wanted is None
                here = range(job.submitted) if wanted is None else wanted
                known = [index for index in here if index < job.submitted]
                job.cancelled.update(known)
                client.order(t.CancelTasks(job.id, None if wanted is None else known))

        def close() -> None:
            client.order(t.CloseJob(job.id))
            self.checker.closed(client, job)

        self.at(job.arrivals[0][0], lambda: open_it(job.arrivals[0][1]))

    def _heal(self) -> None:
        """Nothing goes wrong from here on, and what is down comes up."""
        self.tell("world", "is healed")
        self.healed = True
        disk = self.broker.disk
        disk.slowness, disk.full, disk.fault, self.broker.doom = 0.0, False, "", ""
        for part in (self.broker, *self.nodes, *self.clients):
            if part.paused_until > self.now:
                part.paused_until = self.now
                part.wake(0.0)
        for near in list(self.network.parted):
            self.network.unite(near)
        self.broker.start()
        # A node that is down may stay away: its lease runs out.
        self.nodes[0].start()
        for node in self.nodes[1:]:
            if not node.scrapped and self.random.random() < 0.5:
                node.start()
        for delay in (0.0, 12.0, 25.0):
            self.after(delay, self._unpause_jobs)

    def _read_back(self) -> Client:
        """A new client that wants every result of every durable job."""
        reader = Client(self, "reader")
        self.checker.reader = reader
        reader.start()
        self._unpause_jobs()
        for number, job in enumerate(self.checker.abandon()):
            reader.order(t.Ask(1000 + number, "cancel", {"id": job}))
        for job in self.checker.promised:
            reader.order(t.Subscribe(job))
        return reader

    def _leave(self, clients: list[Client]) -> None:
        """Every client goes; then there is time to tidy up."""
        for client in clients:
            client.order(t.Close("done"))
        for client in clients:
            self.after(1.0, client.halt)
        deadline = self.now + 4 * self.plan.limits.session_grace + 10
        self._until(lambda: not self.checker.remains(), deadline)

    def _unpause_jobs(self) -> None:
        for job in list(self.broker.core.state.jobs.values()):
            if job.paused:
                self.ask("resume", job.id)

    def broker_is_down(self) -> None:
        """Start it again, soon or late, as a service manager does."""
        delay = 0.05 if self.healed else self.random.choice((0.01, 0.3, 3.0, 9.0))
        self.after(delay, self.broker.start)

    def node_is_down(self, node: NodeHost) -> None:
        """Start it again, soon or late, or never."""
        if node.scrapped:
            return
        delay = 0.1 if self.healed else self.random.choice((0.05, 1.0, 10.0, 1e9))
        if delay < 1e9 or node is self.nodes[0]:
            self.after(min(delay, 10.0), node.start)

    # What goes wrong

    def _fault(self, kind: str) -> None:
        if not self.healed:
            self.tell("world", "fault: {}", kind)
            faults.FAULTS[kind][1](self, self.random)

    def sleep(self, part: Peer, seconds: float) -> None:
        """A node or client does nothing for a while; the broker may notice."""
        part.pause(seconds)
        if part.link is not None and part.link.far_open and seconds > 6.0:
            link: Any = part.link
            self.after(6.0, lambda: link.sever(seconds - 6.0, 0.0))

    def sleep_broker(self, seconds: float) -> None:
        """The broker does nothing for a while; the others may notice."""
        self.broker.pause(seconds)
        for link in list(self.broker.links.values()):
            if seconds > 6.0:
                self.after(6.0, partial(link.sever, 0.0, seconds - 6.0))

    def ask(self, what: str, job: str) -> None:
        """Have the first client that is alive give an order about a job."""
        reader = self.checker.reader
        for client in [*self.clients, *([reader] if reader is not None else [])]:
            if client.alive:
                client.order(t.Ask(self._ties, what, {"id": job}))
                return
