"""Seeded disorder: whatever order events come in, no task is lost, doubled or in two places."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from harness.worlds.worker import World
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core import effects, events
from manyhands_worker.core.leased_link import Phase

Task = tuple[str, int, int]


class Disorder:
    """A world in which things happen at random, and what must be true of it in the end."""

    jobs = "ab"
    #: How many tasks come at once; and the devices that each takes, by job.
    numbers: ClassVar[list[int]] = [1, 3, 40]
    gpus: ClassVar[dict[str, float]] = {}

    def __init__(self, world: Any, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = world
        self.assigned: set[Task] = set()
        self.ended: dict[Task, int] = {}
        self.returned: set[Task] = set()
        self.dropped: set[Task] = set()
        self.steps: list[Callable[[], None]] = [
            self.assign,
            self.assign,
            self.finish,
            self.finish,
            self.finish,
            self.die,
            self.settle,
            self.cancel,
            self.recall,
            self.acknowledge,
            self.relink,
            self.lend,
        ]

    def run(self) -> None:
        """Let many things happen, then come to rest: no task is lost or doubled."""
        for _ in range(400):
            self.step()
        self.come_to_rest()
        done = self.ended.keys()
        assert done | self.returned | self.dropped == self.assigned
        assert not done & self.returned

    def step(self) -> None:
        """One thing happens."""
        self.chance.choice(self.steps)()
        self.replace_retired()
        self.world.tick(self.chance.choice([0.0, 0.001, 0.03]))
        renewals = [message for message in self.world.sent if isinstance(message, m.Renew)]
        if self.world.core.phase is Phase.READY and renewals:
            self.world.say(m.Lease(renewals[-1].counter))
        self.collect()

    def assign(self) -> None:
        """New tasks, sometimes before their function."""
        job = self.chance.choice(self.jobs)
        first = len(self.assigned)
        indices = range(first, first + self.chance.choice(self.numbers))
        self.assigned |= {(job, 1, index) for index in indices}
        options = {"resources": {"gpu": self.gpus[job]}} if job in self.gpus else None
        self.world.assign(*indices, job=job, code=self.chance.random() < 0.9, options=options)

    def finish(self) -> None:
        """A slot reports some of its oldest batch."""
        slot = self.chance.choice(self.world.served)
        left = self.world.left_of_batch(slot)
        if left and slot not in self.world.dead:
            seconds = self.chance.choice([1e-6, 1e-3, 0.1])
            self.world.finish(slot, self.chance.randint(1, left), seconds)

    def die(self) -> None:
        """A child dies, idle or in a task."""
        slot = self.chance.choice(self.world.served)
        given = self.world.given[slot]
        blamed = 0
        if given and self.chance.random() < 0.5:
            serial = given[0][0]
            if serial < self.world.limits.get(slot, 1 << 62):
                blamed = self.world.claims[slot] = serial
        self.world.die(slot, blamed)

    def settle(self) -> None:
        """Claims are read, and killed children are dead."""
        for slot in self.world.served:
            if self.world.revoking(slot):
                self.world.tell(events.Claimed(slot, self.world.claims[slot]))
            if slot in self.world.dead:
                self.world.die(slot)

    def cancel(self) -> None:
        """Some tasks are cancelled, wherever they are."""
        job = self.chance.choice(self.jobs)
        some = [i for j, _, i in sorted(self.assigned) if j == job and self.chance.random() < 0.1]
        if some:
            self.world.say(m.Cancel([m.Span(job, self.chance.choice([0, 1]), some)]))

    def recall(self) -> None:
        """The broker wants tasks back."""
        self.world.say(m.Recall(self.chance.choice([1, 10])))

    def acknowledge(self) -> None:
        """The broker has taken everything that was sent."""
        for message in self.world.unacknowledged:
            for group in message.groups:
                for index, status in zip(group.indices, group.statuses, strict=True):
                    task = (group.job, group.attempt, index)
                    assert task not in self.ended, "delivered twice"
                    self.ended[task] = status
        if self.world.unacknowledged:
            self.world.say(m.Ack(self.world.unacknowledged[-1].seq))
            self.world.unacknowledged.clear()

    def lend(self) -> None:
        """The task in a slot waits for tasks, or does so no more."""
        slot = self.chance.choice(self.world.served)
        self.world.tell(events.Lends(slot, self.chance.random() < 0.5))

    def relink(self) -> None:
        """Now and then the link is cut, and the broker does not keep everything."""
        if self.chance.random() < 0.7:
            return
        self.world.tell(events.LinkLost("cut"))
        self.world.unacknowledged.clear()
        self.world.tell(events.LinkUp())
        keep = []
        for span in self.world.last(m.WorkerHello).holding:
            kept = [index for index in span.indices if self.chance.random() < 0.9]
            gone = set(span.indices) - set(kept)
            self.dropped |= {(span.job, span.attempt, index) for index in gone}
            if kept:
                keep.append(m.Span(span.job, span.attempt, kept))
        self.world.welcome(keep)

    def replace_retired(self) -> None:
        """Retired children have successors, and spare slots get their first."""
        for slot in [*self.world.unborn]:
            self.world.unborn.discard(slot)
            self.world.tell(events.Born(slot))
        for slot in [*self.world.retired]:
            self.world.retired.discard(slot)
            self.world.tell(events.Born(slot))

    def collect(self) -> None:
        """Note what was given back."""
        for message in self.world.sent:
            if isinstance(message, m.Returned):
                for span in message.spans:
                    self.returned.update((span.job, span.attempt, i) for i in span.indices)
        self.world.sent[:] = [x for x in self.world.sent if isinstance(x, m.WorkerHello | m.Renew)]

    def come_to_rest(self) -> None:
        """Nothing more goes wrong: everything ends."""
        self.world.give_function()
        for _ in range(2_000):
            self.settle()
            self.replace_retired()
            for slot in self.world.served:
                left = self.world.left_of_batch(slot)
                if left:
                    self.world.finish(slot, left)
            self.world.tick(0.001)
            self.acknowledge()
            self.collect()
            if not self.world.active():
                return
        raise AssertionError("it does not come to rest")


class DisorderOfDevices(Disorder):
    """The same with tasks that take devices; at each start `World` sees that no two have the same."""

    jobs = "abcde"
    numbers: ClassVar[list[int]] = [1, 1, 3]
    gpus: ClassVar[dict[str, float]] = {"a": 1.0, "b": 0.5, "c": 0.3, "d": 2.0}


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_of_events_each_task_has_its_own_devices(
    make_world: Callable[..., World], seed: int
) -> None:
    offered = {"0": 1.0, "GPU-a": 1.0, "2": 0.5}
    disorder = DisorderOfDevices(make_world(slots=4, devices=offered), seed)
    disorder.run()
    assert Status.OK in disorder.ended.values()
    devices = disorder.world.core._work._scheduler.devices
    assert devices._free == offered, "all are given back"


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_events_loses_nothing_and_doubles_nothing(
    make_world: Callable[..., World], seed: int
) -> None:
    disorder = Disorder(make_world(slots=3), seed)
    disorder.run()
    assert not disorder.ended.keys() & disorder.dropped
    assert set(disorder.ended.values()) <= {Status.OK, Status.CRASHED, Status.CANCELLED}
    assert Status.OK in disorder.ended.values()


_VALUES = [bytes([number]) * 16 for number in range(3)]
_OWNER = b"o" * 16


class _HeldResult:
    """A large result that a client may fetch."""

    key = b"k" * 16
    nbytes = 100
    ticket = b"ticket"

    def payload(self) -> tuple[bytes, ...]:
        return (bytes(self.nbytes),)

    def admit(self, _guest: str) -> None:
        """No client is served here."""

    def free(self) -> None:
        """That it is asked for is an effect of the core."""


class DisorderOfValues(Disorder):
    """The same with values that come late, and with results that are held."""

    numbers: ClassVar[list[int]] = [1, 3, 8]

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed)
        self.held: list[_HeldResult] = []
        self.steps += [self.give_back, self.give_back, self.arrive, self.hold, self.hold]
        self.steps += [self.fetch, self.relay]

    def _pop(self, slot: int, count: int) -> int:
        """Take a slot's next tasks off; return the serial of the first."""
        given = self.world.given[slot]
        first, last = given[0][0], given[count - 1][0]
        del given[:count]
        self.world.claims[slot] = max(self.world.claims[slot], last)
        return int(first)

    def _ready_slot(self) -> int | None:
        slot = self.chance.choice(self.world.served)
        given = self.world.given[slot]
        if not self.world.left_of_batch(slot) or slot in self.world.dead:
            return None
        limit = self.world.limits.get(slot, 1 << 62)
        return slot if given[0][0] < limit or given[0][0] <= self.world.claims[slot] else None

    def give_back(self) -> None:
        """A child gives tasks back, the first of them for a value has not come."""
        if (slot := self._ready_slot()) is None:
            return
        count = self.chance.randint(1, self.world.left_of_batch(slot))
        first = self._pop(slot, count)
        bodies = [self.chance.choice(_VALUES) + _OWNER] + [b""] * (count - 1)
        self.world.tell(
            events.Finished(slot, first, bytes([REVOKED]) * count, list(bodies), 0.0, 0)
        )

    def arrive(self) -> None:
        """A value has come."""
        self.world.tell(events.Arrived(self.chance.choice(_VALUES)))

    def hold(self) -> None:
        """A task ends, and its result stays."""
        if (slot := self._ready_slot()) is None:
            return
        first = self._pop(slot, 1)
        result = _HeldResult()
        self.held.append(result)
        held = bytes([Status.HELD])
        self.world.tell(
            events.Finished(slot, first, held, [b"ticket"], 0.1, 6, held_results=[result])
        )

    def _some_held(self) -> list[m.Span]:
        tasks = [task for task, status in self.ended.items() if status == Status.HELD]
        return [
            m.Span(job, attempt, [index])
            for job, attempt, index in tasks
            if self.chance.random() < 0.4
        ]

    def fetch(self) -> None:
        """Clients have fetched some of the held results."""
        for span in self._some_held():
            self.world.say(m.Taken([span]))
            if not self.world.core._work._owned.has((span.job, span.attempt), span.indices[0]):
                self.ended[span.job, span.attempt, span.indices[0]] = Status.OK

    def relay(self) -> None:
        """Clients cannot fetch some of them."""
        if spans := self._some_held():
            self.world.say(m.Relay(spans))

    def acknowledge(self) -> None:
        """A held result is told again on each link, and ends once."""
        for message in self.world.unacknowledged:
            for group in message.groups:
                for index, status in zip(group.indices, group.statuses, strict=True):
                    task = (group.job, group.attempt, index)
                    if status == Status.HELD:
                        self.ended.setdefault(task, status)
                        continue
                    assert self.ended.get(task, Status.HELD) == Status.HELD, "delivered twice"
                    self.ended[task] = status
        if self.world.unacknowledged:
            self.world.say(m.Ack(self.world.unacknowledged[-1].seq))
            self.world.unacknowledged.clear()

    def come_to_rest(self) -> None:
        """Nothing more goes wrong, and all values come: everything ends."""
        for _ in range(4):
            for value in _VALUES:
                self.world.tell(events.Arrived(value))
            self.fetch()
        self.world.give_function()
        for _ in range(500):
            self.settle()
            self.replace_retired()
            for value in _VALUES:
                self.world.tell(events.Arrived(value))
            for slot in self.world.served:
                if left := self.world.left_of_batch(slot):
                    self.world.finish(slot, left)
            self.world.tick(0.001)
            self.acknowledge()
            self.fetch()
            self.collect()
            if not self.world.active():
                return
        raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_of_values_and_held_results_nothing_is_lost_or_doubled(
    make_world: Callable[..., World], seed: int
) -> None:
    disorder = DisorderOfValues(make_world(slots=3), seed)
    disorder.run()
    freed = [
        id(block)
        for effect in disorder.world.effects
        if isinstance(effect, effects.Free)
        for block in effect.blocks
    ]
    assert sorted(freed) == sorted(map(id, disorder.held)), "each held result is freed once"
