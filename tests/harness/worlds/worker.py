"""A pool and a broker that exist only in the test, around a real core."""

from __future__ import annotations

from typing import Any

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core import effects, events
from manyhands_worker.core.model import Batch, Key
from manyhands_worker.core.node_core import Identity, NodeCore

_DIGEST = b"d" * 16


class World:
    """A node's core between a broker and a pool that are played by the test."""

    def __init__(self, slots: int = 2, **others: Any) -> None:
        """`others`: ``idle_timeout``, ``time_limit`` and ``devices`` of the node."""
        self.core = NodeCore(Identity("unit", b"b" * 16, slots, 1_000, 30.0, **others))
        self.now = 100.0
        self.sent: list[m.Message] = []
        self.effects: list[effects.Effect] = []
        #: What each slot's child has been given: (serial, key, index), oldest first.
        self.given: dict[int, list[tuple[int, Key, int]]] = {n: [] for n in range(slots)}
        self.limits: dict[int, int] = {}
        self.dead: set[int] = set()
        self.retired: set[int] = set()
        #: Spare slots that are closed, and those that get their child yet.
        self.closed: set[int] = set()
        self.unborn: set[int] = set()
        self.claims = dict.fromkeys(range(slots), 0)
        self.unacknowledged: list[m.Results] = []
        #: Devices of the tasks in slots, and what each takes of each; slots whose task waits for tasks.
        self.devices: dict[int, tuple[tuple[str, ...], float]] = {}
        self.lent: set[int] = set()
        self._offered: dict[str, float] = others.get("devices", {})
        for slot in range(slots):
            self.tell(events.Born(slot))

    @property
    def served(self) -> list[int]:
        """Slots that have a child."""
        return sorted(self.given.keys() - self.closed - self.unborn)

    def tell(self, event: events.Event) -> None:
        """Give the core an event and note its effects."""
        if isinstance(event, events.Lends):
            (self.lent.add if event.on else self.lent.discard)(event.slot)
        for effect in self.core.handle(event, self.now):
            self.effects.append(effect)
            match effect:
                case effects.Send(message):
                    self.sent.append(message)
                    if isinstance(message, m.Results):
                        self.unacknowledged.append(message)
                case effects.Start(slot, batch):
                    assert slot not in self.dead
                    serials = range(batch.first, batch.first + len(batch.indices))
                    self.given[slot] += [
                        (serial, batch.key, index)
                        for serial, index in zip(serials, batch.indices, strict=True)
                    ]
                    self.limits.pop(slot, None)
                    if batch.devices:
                        self._equip(slot, batch)
                case effects.Revoke(slot, limit):
                    self.limits[slot] = limit
                case effects.Kill(slot):
                    self.dead.add(slot)
                case effects.Open(slot):
                    self.given[slot], self.claims[slot] = [], 0
                    self.closed.discard(slot)
                    self.unborn.add(slot)
                case effects.Close(slot):
                    assert not self.given[slot]
                    self.closed.add(slot)
                    self.unborn.discard(slot)
                case effects.Retire(slot):
                    assert not self.given[slot]
                    self.retired.add(slot)
        self.core.validate()

    def _equip(self, slot: int, batch: Batch) -> None:
        """A task starts with devices, and no other task has too much of these."""
        gpu = batch.rules.gpu
        assert len(batch.indices) == 1
        assert len(set(batch.devices)) == max(1, gpu), "whole devices, or a part of one"
        self.lent.discard(slot)
        self.devices[slot] = batch.devices, min(gpu, 1.0)
        for name in batch.devices:
            taken = sum(
                each
                for other, (names, each) in self.devices.items()
                if name in names and other not in self.lent
            )
            assert taken <= self._offered[name] + 1e-6, f"{name} is given to too many"

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and end a turn."""
        self.now += seconds
        self.tell(events.Tick())

    def say(self, message: m.Message) -> None:
        """A message from the broker."""
        self.tell(events.Received(message))

    def connect(self, keep: list[m.Span] | None = None) -> None:
        """A new link, up to the welcome."""
        self.unacknowledged.clear()
        self.tell(events.LinkUp())
        hello = self.last(m.WorkerHello)
        self.welcome(hello.holding if keep is None else keep)

    def welcome(self, keep: list[m.Span]) -> None:
        """The broker's welcome."""
        self.say(m.WorkerWelcome(1, b"x" * 16, 15.0, 5.0, 9, 1, b"k" * 32, 1.0, keep, 7))

    def assign(
        self,
        *indices: int,
        job: str = "j",
        attempt: int = 1,
        code: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Tasks from the broker."""
        if code:
            self.say(m.Function(_DIGEST, "f", [b"code"]))
        bodies: list[Any] = [b"args"] * len(indices)
        self.say(m.Assign([m.AssignGroup(job, attempt, _DIGEST, options, list(indices), bodies)]))

    def give_function(self) -> None:
        """The function that all tasks need."""
        self.say(m.Function(_DIGEST, "f", [b"code"]))

    def left_of_batch(self, slot: int) -> int:
        """Unreported tasks of a slot's oldest batch."""
        batches = self.core._work._scheduler.slots[slot].batches
        return len(batches[0].indices) - batches[0].done if batches and self.given[slot] else 0

    def revoking(self, slot: int) -> bool:
        """Whether the core waits for a slot's `Claimed`."""
        return self.core._work._scheduler.slots[slot].revoking

    def active(self) -> int:
        """Tasks that the node holds."""
        return len(self.core._work)

    def last(self, kind: type) -> Any:
        """The newest message of a kind."""
        return next(message for message in reversed(self.sent) if isinstance(message, kind))

    def finish(self, slot: int, count: int = 1, seconds: float = 1e-6) -> None:
        """A slot reports its next tasks, those at its limit as revoked."""
        given = self.given[slot][:count]
        # A report never crosses a batch; nor does it here, for all tasks are of one group.
        limit = self.limits.get(slot, 1 << 62)
        statuses = bytes(
            REVOKED if serial >= limit and serial > self.claims[slot] else Status.OK
            for serial, _, _ in given
        )
        del self.given[slot][:count]
        if not self.given[slot]:
            self.devices.pop(slot, None)
        self.claims[slot] = max(self.claims[slot], given[-1][0])
        bodies: list[Any] = [b"r"] * count
        self.tell(events.Finished(slot, given[0][0], statuses, bodies, seconds * count, count))

    def die(self, slot: int, blamed: int = 0) -> None:
        """A slot's child dies and another is born."""
        asked = slot in self.dead
        self.dead.discard(slot)
        self.given[slot].clear()
        self.devices.pop(slot, None)
        self.limits.pop(slot, None)
        self.tell(events.Died(slot, self.claims[slot], 0 if asked else blamed, "it died", asked))
        self.tell(events.Born(slot))
