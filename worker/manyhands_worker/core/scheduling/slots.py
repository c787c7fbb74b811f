"""Which task runs in which slot, and how many at a time.

A slot is given about `BATCH_SECONDS` of work, by the measured duration of the function's tasks. That is
one task while it is unknown, hundreds where they take microseconds. Where tasks are short a second
batch waits in the child's pipe, so that it never idles between two.

A guess may be wrong: then unstarted tasks sit behind a slow one. As soon as another slot has nothing
to do they are taken back (see `ipc.control_block`) and go there.

A child that has loaded the modules of one bundle runs tasks with that bundle alone, for a module is
loaded once in a process. So a slot is *bound* by its first task with a bundle, until its child is
replaced. It is bound to an environment in the same way. A bound slot takes the tasks of its bundle from
behind others. But if these have no slot, or
far too few, an idle slot of another bundle gets another child for them. Devices bind a child likewise
(see `devices`); a task with devices or a limit of memory has its slot to itself.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.programs.recognition import runs_programs
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core.model import Batch, Key
from manyhands_worker.core.scheduling.devices import Devices
from manyhands_worker.core.scheduling.queue import QueuedTasks, TaskQueue

BATCH_SECONDS = 0.010
#: The same of programs. Around each the caches are cold, so that a batch costs more.
PROGRAM_BATCH_SECONDS = 0.040
BATCH_TASKS = 512
#: A slot that has reported nothing for this time is in a slow task.
STUCK_SECONDS = 0.020
#: Tasks shorter than this are queued in the child while it still runs others.
_SHORT_SECONDS = 0.005
_REMEMBERED = 4_096
#: A bundle has too few slots if each has this many times the waiting work of another's.
_UNEVEN = 2.0
#: Stands for no slots, where work is divided by their number.
_FEW = 1e-9
#: Vectors of waiting tasks among which a bound slot looks for some of its bundle.
_LOOKAHEAD = 64


class Disorder(Exception):
    """A child reports what it was not given."""


class Losses(NamedTuple):
    """What a dead child had begun: the task it died of, those that may not run again, its arguments."""

    culprit: tuple[Key, int] | None
    lost: list[tuple[Key, list[int]]]
    arguments: list[Payload]


@dataclass(slots=True)
class Slot:
    """One slot: what its child was given and has not reported."""

    number: int
    up: bool = True
    #: A spare slot that gets no child until it is opened again.
    closed: bool = False
    batches: deque[Batch] = field(default_factory=deque)
    next_serial: int = 1
    #: Tasks were taken back: nothing new goes there before the child has reported all it has.
    revoked: bool = False
    #: `Revoke` was asked for and `Claimed` has not come.
    revoking: bool = False
    #: The serial that it ran when it said so last: those before have run, and will be reported.
    claim: int = 0
    progress: float = 0.0
    #: Tasks run of jobs that limit the tasks of a child.
    counted: int = 0
    worn: bool = False
    #: The job, and attempt, of the task that it reported last.
    last: Key | None = None
    #: The bundle whose modules its child has, and the environment that it runs in; empty: none.
    binding: bytes = b""
    #: The devices that its child has had; empty: none.
    devices: tuple[str, ...] = ()

    def open_to_more(self) -> bool:
        """Whether its child may be given another batch."""
        return self.up and not (self.worn or self.revoked or self.revoking)

    def unstarted(self) -> int:
        """Tasks that may be unstarted: all but the first of those not reported."""
        count = -1
        for batch in self.batches:
            count += min(len(batch.indices), batch.taken - batch.first) - batch.done
        return max(0, count)

    def open_tasks(self) -> list[tuple[Batch, int, int]]:
        """(batch, from, to) of what was neither reported nor taken back, as offsets."""
        spans = [
            (batch, batch.done, min(len(batch.indices), batch.taken - batch.first))
            for batch in self.batches
        ]
        return [span for span in spans if span[1] < span[2]]


class SlotScheduler:
    """The queue, the slots, and who gets what."""

    def __init__(self, slots: int, devices: Mapping[str, float] | None = None) -> None:
        self.queue = TaskQueue()
        self.devices = Devices(devices or {})
        self._own = slots
        #: Those of the node, and behind them spare ones.
        self.slots = [Slot(number, up=False) for number in range(slots)]
        self._seconds: OrderedDict[bytes, float] = OrderedDict()

    def add_slot(self) -> int:
        """Add a spare slot; return its number."""
        number = len(self.slots)
        self.slots.append(Slot(number, up=False))
        return number

    def next_batches(self, now: float) -> list[tuple[int, Batch]]:
        """Give out what can be given out: first to idle slots, then behind short tasks."""
        started: list[tuple[int, Batch]] = []
        for depth in (0, 1):
            # Looked at before the slots are put in order: a turn that brings no task is as common.
            if not self.queue.ready:
                break
            for slot in self._by_preference():
                if not self.queue.ready:
                    break
                if len(slot.batches) == depth and slot.open_to_more():
                    batch = self._fill(slot, now)
                    if batch is not None:
                        started.append((slot.number, batch))
        return started

    def _by_preference(self) -> Sequence[Slot]:
        """All slots, those first that are bound as the task that comes next needs it."""
        front = self._front()
        if front is None:
            return ()
        binding, gpu = front.rules.binding, front.rules.gpu
        if not (binding or gpu):
            return self.slots
        if not gpu:
            others = [slot for slot in self.slots if slot.binding != binding]
            # As a rule there are none: this is asked for each lone task.
            return [slot for slot in self.slots if slot.binding == binding] + others
        return sorted(
            self.slots, key=lambda slot: (slot.binding != binding, self._detour(slot, gpu))
        )

    def _front(self) -> QueuedTasks | None:
        """The tasks that come next, of those that need not wait for devices."""
        front = self.queue.front()
        if front is None or self._has_devices(front):
            return front
        return next(filter(self._has_devices, self.queue.first(_LOOKAHEAD)), None)

    def _has_devices(self, queued: QueuedTasks) -> bool:
        gpu = queued.rules.gpu
        return not gpu or self.devices.choice(gpu) is not None

    def _detour(self, slot: Slot, gpu: float) -> int:
        """How far a child is from having the devices of a task: it has had them, or none, or others."""
        if not (gpu and slot.devices):
            return 1 if gpu else 0
        return 0 if self.devices.choice(gpu, slot.devices) == slot.devices else 2

    def _devices_for(self, slot: Slot, gpu: float) -> tuple[str, ...] | None:
        """The devices that a task gets in an idle slot. If no other will do, its child is given up."""
        if self._detour(slot, gpu) < 2:
            return self.devices.choice(gpu, slot.devices)
        if self._coming() < self.queue.ready and not any(
            other.open_to_more() and not other.batches and self._detour(other, gpu) < 2
            for other in self.slots
        ):
            slot.worn = True
        return None

    def _fitting(self, slot: Slot) -> QueuedTasks | None:
        """The tasks that come next for a slot. One that is idle is given up if it only keeps others."""
        front = self._front()
        if front is None or front.rules.binding == slot.binding:
            return front
        if not slot.binding:
            return None if slot.batches else front
        mine = None
        waiting: defaultdict[bytes, float] = defaultdict(float)
        for queued in self.queue.first(_LOOKAHEAD):
            binding = queued.rules.binding
            waiting[binding] += len(queued) * self._seconds.get(queued.function, BATCH_SECONDS)
            if mine is None and binding == slot.binding and self._has_devices(queued):
                mine = queued
        slots = Counter(other.binding for other in self.slots if other.up and not other.worn)
        coming = self._coming()
        other = waiting[front.rules.binding] / max(slots[front.rules.binding] + coming, _FEW)
        if mine is not None and other <= _UNEVEN * waiting[slot.binding] / slots[slot.binding]:
            return mine
        if not slot.batches and coming < self.queue.ready:
            slot.worn = True
        return None

    def _coming(self) -> int:
        """Return how many slots get another child."""
        return sum(not slot.closed and (slot.worn or not slot.up) for slot in self.slots)

    def _fill(self, slot: Slot, now: float) -> Batch | None:
        queued = self._fitting(slot)
        if queued is None:
            return None
        count = self._count(queued)
        if slot.batches and (queued.alone or not self._short(slot.batches[0], queued)):
            return None
        if queued.rules.tasks_per_child:
            count = min(count, queued.rules.tasks_per_child - slot.counted)
            if count <= 0:
                slot.worn = True
                return None
        devices: tuple[str, ...] = ()
        if queued.rules.gpu:
            found = self._devices_for(slot, queued.rules.gpu)
            if found is None:
                return None
            slot.devices = devices = found
            self.devices.grant(slot.number, queued.rules.gpu, devices)
        indices, bodies = self.queue.take(count, queued)
        slot.binding = queued.rules.binding
        batch = Batch(
            slot.next_serial,
            queued.key,
            queued.function,
            queued.code,
            queued.parents,
            queued.rules,
            indices,
            bodies,
            queued.modules,
            devices,
        )
        slot.next_serial += len(indices)
        if queued.rules.tasks_per_child:
            slot.counted += len(indices)
            slot.worn = slot.counted >= queued.rules.tasks_per_child
        if not slot.batches:
            slot.progress = now
        slot.batches.append(batch)
        return batch

    def _short(self, batch: Batch, queued: QueuedTasks) -> bool:
        """Whether both are known to be of short tasks, and neither has its slot to itself."""
        known = self._seconds
        alone = batch.rules.has_slot_to_itself or queued.rules.has_slot_to_itself
        return not alone and all(
            known.get(function, BATCH_SECONDS) <= _SHORT_SECONDS
            for function in (batch.function, queued.function)
        )

    def _count(self, queued: QueuedTasks) -> int:
        """Tasks for the next batch."""
        seconds = self._seconds.get(queued.function)
        if queued.alone or queued.rules.gpu or seconds is None or seconds > _SHORT_SECONDS:
            return 1
        share = -(-self.queue.ready // self._own)
        most = PROGRAM_BATCH_SECONDS if runs_programs(queued.code) else BATCH_SECONDS
        return max(1, min(BATCH_TASKS, share, int(most / max(seconds, 1e-6))))

    def worn(self, number: int) -> str:
        """A slot's child is to be replaced, and begins no other task; whose task was its last."""
        slot = self.slots[number]
        slot.worn = True
        return "" if slot.last is None else slot.last[0]

    def worn_out(self) -> list[int]:
        """Slots whose child is to be replaced, now that it has nothing to do. They are down."""
        worn = [slot for slot in self.slots if slot.worn]
        worn = [slot for slot in worn if slot.up and not (slot.batches or slot.revoking)]
        for slot in worn:
            self._reset(slot)
        return [slot.number for slot in worn]

    def finished(
        self,
        number: int,
        first: int,
        statuses: bytes,
        bodies: list[Payload],
        seconds: float,
        now: float,
    ) -> tuple[Key, list[int], bytes, list[Payload]]:
        """Take a report: the key, indices, statuses and bodies of what has truly ended.

        Raises:
            Disorder: it is not about what the slot was given.
        """
        slot = self.slots[number]
        batch = slot.batches[0] if slot.batches else None
        if batch is None or first != batch.first + batch.done or len(statuses) != len(bodies):
            raise Disorder(f"a report from serial {first} on")
        low, high = batch.done, batch.done + len(statuses)
        if high > len(batch.indices):
            raise Disorder(f"a report of {len(statuses)} tasks")
        ended = statuses.find(REVOKED)
        if low + (len(statuses) if ended < 0 else ended) > batch.taken - batch.first:
            raise Disorder("results of tasks that were taken back")
        if ended >= 0:
            back = _part(batch, low + ended, min(high, batch.taken - batch.first))
            self.queue.push_front([back])
            self._uncount(slot, batch, len(back))
            slot.revoked = True
            statuses, bodies = statuses[:ended], bodies[:ended]
        batch.done = high
        slot.progress = now
        if statuses:
            slot.last = batch.key
            self._learn(batch.function, seconds / len(statuses))
        if high == len(batch.indices):
            slot.batches.popleft()
            slot.revoked = slot.revoked and bool(slot.batches)
            if batch.rules.gpu:
                self.devices.release(number)
        return batch.key, batch.indices[low : low + len(statuses)], statuses, bodies

    def arguments(self, number: int, count: int) -> list[Payload]:
        """The arguments of the `count` tasks that a slot reports next, or of those that there are."""
        slot = self.slots[number]
        if not slot.batches:
            return []
        batch = slot.batches[0]
        return batch.bodies[batch.done : batch.done + count]

    def _learn(self, function: bytes, seconds: float) -> None:
        old = self._seconds.get(function, seconds)
        self._seconds[function] = (old + seconds) / 2
        self._seconds.move_to_end(function)
        if len(self._seconds) > _REMEMBERED:
            self._seconds.popitem(last=False)

    def stuck(self, now: float) -> list[Slot]:
        """Slots in a slow task with unstarted ones behind it."""
        return [slot for slot in self._backed_up() if now - slot.progress >= STUCK_SECONDS]

    def _backed_up(self) -> list[Slot]:
        """Slots with unstarted tasks that can be taken back."""
        return [s for s in self.slots if s.batches and not s.revoking and s.unstarted()]

    def blocking(self, now: float) -> list[Slot]:
        """Slots in a slow task, with unstarted ones behind it that an idle slot could have."""
        stuck = self.stuck(now)
        return stuck if stuck and self._idle() else []

    def _idle(self) -> bool:
        """Whether some slot has nothing to do and nothing waits for it."""
        if not self.queue.ready:
            for slot in self.slots:
                if slot.up and not slot.batches and not slot.worn:
                    return True
        return False

    def next_blocking(self, now: float) -> float:
        """When `blocking` may have something to say."""
        backed_up = self._backed_up()
        if not (backed_up and self._idle()):
            return math.inf
        return max(now, min(slot.progress + STUCK_SECONDS for slot in backed_up))

    def claimed(self, number: int, claim: int) -> None:
        """Take back what a slot has not started."""
        slot = self.slots[number]
        if not slot.revoking:
            return
        slot.revoking, slot.claim = False, claim
        back = []
        for batch, low, high in slot.open_tasks():
            start = max(low, claim + 1 - batch.first)
            if start < high:
                back.append(_part(batch, start, high))
                batch.taken = batch.first + start
                self._uncount(slot, batch, high - start)
                slot.revoked = True
        self.queue.push_front(back)

    def holder(self, number: int, serial: int) -> tuple[Key, int] | None:
        """The task behind a serial that a slot has not reported."""
        for batch, low, high in self.slots[number].open_tasks():
            if low <= serial - batch.first < high:
                return batch.key, batch.indices[serial - batch.first]
        return None

    def printer(self, number: int, serial: int) -> tuple[Key, int] | None:
        """A task of the job that prints: of `serial`, or of what the slot has had of that job since."""
        slot = self.slots[number]
        for batch, low, high in slot.open_tasks():
            if serial - batch.first < high:
                return batch.key, batch.indices[max(low, serial - batch.first)]
        return (slot.last, 0) if slot.last is not None else None

    def in_slot(self, number: int, key: Key, wanted: Container[int]) -> list[int]:
        """The tasks of `key` in `wanted` that a slot has not reported."""
        return [
            index
            for batch, low, high in self.slots[number].open_tasks()
            if batch.key == key
            for index in batch.indices[low:high]
            if index in wanted
        ]

    def begin_revoke(self, number: int) -> int | None:
        """Start to take tasks back; the limit to set, or None if there is nothing to take."""
        slot = self.slots[number]
        if slot.revoking or not slot.up or not slot.open_tasks():
            return None
        slot.revoking = True
        batch, low, _ = slot.open_tasks()[0]
        return batch.first + low

    def revoking(self) -> bool:
        """Whether an answer to `Revoke` is still to come."""
        return any(slot.revoking for slot in self.slots)

    def died(self, number: int, claim: int, blamed: int, *, asked: bool = False) -> Losses:
        """A slot's child is dead: put back everything it had but the blamed task.

        What it may have run already is run again each by itself, in case that is what kills; unless
        it may run at most once. A child that died by itself behind a task, before it could report that
        one alone, died of it. Else such a task would run for ever.
        """
        slot = self.slots[number]
        if not (blamed or asked):
            begun = [
                serial
                for batch, low, high in slot.open_tasks()
                for serial in range(batch.first + low, min(batch.first + high, claim + 1))
            ]
            blamed = begun[0] if len(begun) == 1 else 0
        culprit = self.holder(number, blamed) if blamed else None
        back: list[QueuedTasks] = []
        lost: list[tuple[Key, list[int]]] = []
        arguments: list[Payload] = []
        for batch, low, high in slot.open_tasks():
            behind = min(max(claim + 1 - batch.first, low), high)
            touched = replace(_part(batch, low, behind), alone=True)
            if culprit is not None and culprit[0] == batch.key:
                at = blamed - batch.first - low
                if 0 <= at < len(touched):
                    del touched.indices[at]
                    arguments.append(touched.bodies.pop(at))
            if batch.rules.at_most_once:
                lost.append((batch.key, touched.indices))
            else:
                back.append(touched)
            back.append(_part(batch, behind, high))
        self.queue.push_front(back)
        self._reset(slot)
        return Losses(culprit, lost, arguments)

    def born(self, number: int) -> None:
        """A slot has a fresh child."""
        self.slots[number].up = True

    def condemn(self, number: int) -> None:
        """A slot's child is about to be killed: it gets nothing more."""
        self.slots[number].up = False

    def _reset(self, slot: Slot) -> None:
        self.devices.release(slot.number)
        slot.batches.clear()
        slot.up = slot.revoked = slot.revoking = slot.worn = False
        slot.counted = 0
        slot.binding, slot.devices = b"", ()

    def validate(self) -> None:
        """Check the devices. Raises AssertionError."""
        self.devices.validate([slot.number for slot in self.slots if slot.batches])

    @staticmethod
    def _uncount(slot: Slot, batch: Batch, count: int) -> None:
        if batch.rules.tasks_per_child:
            slot.counted -= count


def _part(batch: Batch, low: int, high: int) -> QueuedTasks:
    """Tasks of a batch, by offset, as they were in the queue."""
    return QueuedTasks(
        batch.key,
        batch.function,
        batch.indices[low:high],
        batch.bodies[low:high],
        batch.code,
        batch.rules,
        batch.parents,
        modules=batch.modules,
    )
