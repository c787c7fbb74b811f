"""A `NodePool` with the loop around it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

import cloudpickle

from harness.payloads import PATIENCE, code_of, value_of
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import events
from manyhands_worker.core.failures import of_death
from manyhands_worker.core.model import NO_RULES, Block, Rules
from manyhands_worker.core.scheduling.queue import QueuedTasks
from manyhands_worker.core.scheduling.slots import SlotScheduler
from manyhands_worker.host.gpus import NO_GPUS, Gpus
from manyhands_worker.pool.child_handle import ChildHandle
from manyhands_worker.pool.pool import NodePool


class PoolRig:
    """A `NodePool` with a loop that runs until something is true."""

    def __init__(self, slots: int, slab_bytes: int, **options: Any) -> None:
        self.slots = slots
        self.selector = selectors.DefaultSelector()
        self.pool = NodePool(slots, slab_bytes, self.selector, **options)
        pool_gpus: Gpus = options.get("gpus", NO_GPUS)
        self.work = SlotScheduler(slots, pool_gpus.offered)
        self.events: list[events.Event] = []
        #: (status, value or failure) of each task that ended, by its number.
        self.ended: dict[int, tuple[int, Any]] = {}
        #: The blocks of results that are not freed yet, if `keep_blocks`.
        self.blocks: list[Block] = []
        self.keep_blocks = False
        self._numbers = itertools.count()

    def child(self, slot: int = 0) -> ChildHandle:
        """Return the child of a slot, which must have one."""
        child = self.pool._children[slot]
        assert child is not None
        return child

    def submit(
        self, function: Any, *args: Any, count: int = 1, rules: Rules = NO_RULES
    ) -> list[int]:
        """Queue tasks of one function. Returns their numbers."""
        digest, code = code_of(function)
        indices = [next(self._numbers) for _ in range(count)]
        body = pickled.dumps((args, {}))
        self.work.queue.append(
            QueuedTasks(("job", 1), digest, list(indices), [body] * count, code, rules)
        )
        return indices

    def turn(self, timeout: float = 0.05) -> None:
        """One turn of the loop."""
        now = time.monotonic()
        for slot, batch in self.work.next_batches(now):
            self.pool.start(slot, batch)
        for slot in self.work.worn_out():
            self.pool.retire(slot, now)
        pause = max(0.0, min(now + timeout, self.pool.deadline) - now)
        for key, ready in self.selector.select(pause):
            key.data(ready)
        self.pool.turn(time.monotonic())
        for event in self.pool.take_events():
            self.events.append(event)
            self._take(event)

    def _take(self, event: events.Event) -> None:
        match event:
            case events.Finished():
                if event.worn:
                    self.work.worn(event.slot)
                if not event.statuses:
                    return
                _, indices, statuses, bodies = self.work.finished(
                    event.slot,
                    event.first,
                    event.statuses,
                    event.bodies,
                    event.seconds,
                    time.monotonic(),
                )
                for index, status, body in zip(indices, statuses, bodies, strict=True):
                    assert index not in self.ended, "a task ended twice"
                    value = value_of(status, body)
                    self.ended[index] = (status, cloudpickle.loads(cloudpickle.dumps(value)))
                self.blocks += event.blocks
                if not self.keep_blocks:
                    self.free()
            case events.Claimed():
                self.work.claimed(event.slot, event.claim)
            case events.Died():
                culprit, lost, _ = self.work.died(event.slot, event.claim, event.blamed)
                if culprit is not None:
                    status, failure = of_death(event, event.text, 1, "rig")
                    text = failure.message if event.memory[1] else event.text
                    self.ended[culprit[1]] = (status, text)
                for _, indices in lost:
                    self.ended.update(dict.fromkeys(indices, (Status.LOST, event.text)))
            case events.Born():
                self.work.born(event.slot)

    def free(self) -> None:
        """The broker has acknowledged everything."""
        for block in self.blocks:
            block.free()
        self.blocks.clear()

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Run the loop until `condition()` is true; returns what it gave."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < end, f"not in time: {what or condition}"
            self.turn()
        return value

    def outcome(self, numbers: list[int]) -> list[tuple[int, Any]]:
        """Run the loop until these tasks ended."""
        self.until(lambda: self.ended.keys() >= set(numbers), f"tasks {numbers[:3]}…")
        return [self.ended[number] for number in numbers]

    def call(self, function: Any, *args: Any) -> tuple[int, Any]:
        """Run one task: its status and its value or failure."""
        return self.outcome(self.submit(function, *args))[0]

    def started(self, slot: int = 0) -> int:
        """Run the loop until a slot's child is in a task; returns the child's process id."""
        self.until(lambda: self._busy(slot), "the task started")
        return self.pool.pid(slot)

    def _busy(self, slot: int) -> bool:
        child = self.pool._children[slot]
        return child is not None and child.busy

    def kill_children(self, chance: random.Random, times: int) -> None:
        """Kill one child after the other, and turn for a moment after each."""
        for _ in range(times):
            pid = self.pool.pid(chance.randrange(self.slots))
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for _ in range(chance.randrange(8)):
                self.turn(timeout=0.002)
            births = self.pool._births.due
            births.update(dict.fromkeys(births, 0.0))  # no patience here

    def deaths(self) -> list[events.Died]:
        """Children that died so far."""
        return [event for event in self.events if isinstance(event, events.Died)]
