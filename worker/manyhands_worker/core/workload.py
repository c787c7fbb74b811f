"""The attempts that a node has, from `Assign` until the broker is done with them.

Every attempt is in `_owned`, and meanwhile in exactly one place::

    queue (ready or parked) -> slot -> outbox (waiting or sent)
            ^  ^                |         ^
            |  +- away <--------+         |   a value that it refers to has not come
            |                   +-> held +   a result held for its client, which cannot fetch it
            +-------------------+   taken back, or its child died

Whatever comes for an attempt that is not owned (a late result of a dropped one) is dropped without a
word. So to drop an attempt is to take it out of `_owned`, and nothing that is on its way can bring it
back.

Three things reach a task inside a slot. *Taking back*: `Revoke`, then `Claimed` says what was not
started. *Cancelling*: the same, and if the claimed task is among the doomed, `Kill`. *Death*: `Died`
blames at most one task; the others go back into the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.bounds import MAX_TASKS
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.status import Status
from manyhands_shared.text import amount
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core import effects, events
from manyhands_worker.core.code_supply import CodeSupply
from manyhands_worker.core.environments import Environments
from manyhands_worker.core.failures import CANCELLED, ONCE, no_environment, of_death, refusal
from manyhands_worker.core.invariants import check_doomed, check_places
from manyhands_worker.core.job_rules import JobRules
from manyhands_worker.core.model import Batch, HeldResult, Key
from manyhands_worker.core.output.task_output import TaskOutput
from manyhands_worker.core.results.held_results import HeldResults, as_sent
from manyhands_worker.core.results.outbox import Ended, Outbox
from manyhands_worker.core.results.run_log import RunLog
from manyhands_worker.core.scheduling.awaiting_values import AwaitingValues, Value, whose
from manyhands_worker.core.scheduling.queue import QueuedTasks
from manyhands_worker.core.scheduling.slots import Disorder, SlotScheduler
from manyhands_worker.core.scheduling.spare_slots import SpareSlots
from manyhands_worker.core.task_set import TaskSet

#: Result bytes that the broker has not acknowledged, beyond which no task is started.
UNACKNOWLEDGED_BYTES = 512 << 20


class Workload:
    """Queue, slots and outbox of a node. What is to be done goes to the list `effects`."""

    def __init__(
        self,
        name: str,
        slots: int,
        out: list[effects.Effect],
        devices: Mapping[str, float],
        *,
        safe: bool = False,
        environments: bool = True,
    ) -> None:
        """`devices`, `safe` and `environments`: see `Identity`."""
        self._name = name
        self._safe = safe
        self._may_install = environments
        self._out = out
        self._owned = TaskSet()
        self._scheduler = SlotScheduler(slots, devices)
        #: Slots that serve while others are lent.
        self.spare = SpareSlots(self._scheduler, slots, out)
        self._outbox = Outbox()
        self._held_results = HeldResults()
        self._away = AwaitingValues()
        queue = self._scheduler.queue
        #: The environments of jobs with requirements.
        self.environments = Environments(name, queue, out, slots, self._environments_in_use)
        self._code = CodeSupply(queue, out, self.environments)
        self._jobs = JobRules(self._owned.has_job)
        #: What tasks have printed.
        self.output = TaskOutput(self._scheduler, self._owned, self._jobs)
        #: When tasks ran on which slot, for people.
        self.runs = RunLog()
        # Tasks in slots that were cancelled or dropped: to be killed if they run.
        self._doomed = TaskSet()
        # How many tasks a Recall asked for, while some are still to be taken from slots.
        self._recalled = 0
        #: Messages and reports that made no sense, and were dropped.
        self.dropped = 0
        #: The node must say hello again to be told what it needs for tasks that it did not take.
        self.ignorant = False

    def __len__(self) -> int:
        """Tasks that are owned."""
        return len(self._owned)

    @property
    def running(self) -> int:
        """Slots that have tasks."""
        return len([slot for slot in self._scheduler.slots if slot.batches])

    def holding(self) -> list[m.Span]:
        """All owned tasks, for a hello."""
        return self._owned.spans()

    def deadline(self, now: float) -> float:
        """When `rebalance` has something to do, if nothing else happens."""
        return self._scheduler.next_blocking(now)

    @property
    def overdue_at(self) -> float:
        """When `return_overdue` has something to do, if nothing else happens."""
        return self._away.due

    # From the broker

    def welcome(self, keep: list[m.Span]) -> None:
        """A link is ready: what is not in `keep` is dropped, all other results will go out again."""
        self._recalled = 0
        self.output.relinked()
        dropped = self._owned.keep_only(keep)
        self._jobs.welcome(self._owned.jobs())
        if dropped:
            count = sum(map(len, dropped.values()))
            text = f"the broker does not keep {amount(count, 'task')}; dropping them"
            self._out.append(effects.Log(logging.WARNING, text))
        for key, indices in dropped.items():
            self._scheduler.queue.remove(key, indices)
            self._away.remove(key, indices)
            self._doom(key, indices)
        for key, indices in self._held_results.tasks():
            self._free_held_results(
                key, [index for index in indices if not self._owned.has(key, index)]
            )
        self._out.append(effects.Free(self._outbox.restart(self._owned.has)))
        for ended in self._held_results.again():
            self._outbox.add(ended)
        self._code.ask_again()

    def function(self, message: m.Function) -> None:
        """A function or a bundle has come; tasks that waited for it can start."""
        if len(message.bodies) != 1:
            self.dropped += 1
            return
        self._code.arrived(message.digest, message.bodies[0])

    def given(self, message: m.Given) -> None:
        """Results of the jobs that a job comes after."""
        self._jobs.given(message)

    def jobs_over(self, spans: list[m.Span]) -> None:
        """Nothing more comes of these jobs."""
        self._jobs.over({span.job for span in spans}, self._owned.jobs())

    def assign(self, message: m.Assign) -> None:
        """New tasks. Those that are here already are not taken twice."""
        for group in message.groups:
            key = (group.job, group.attempt)
            if self._jobs.is_missing(group.job):
                self.ignorant = True
                continue
            fresh = self._owned.add(key, group.indices)
            indices, bodies = group.indices, group.bodies
            if len(fresh) < len(indices):
                self.dropped += 1
                places = {index: at for at, index in enumerate(indices)}
                indices = sorted(fresh)
                bodies = [bodies[places[index]] for index in indices]
            try:
                rules = self._jobs.rules(group)
            except ProtocolError as error:
                failure = Failure("manyhands.ProtocolError", f"this node cannot run it: {error}")
                self._end(key, indices, Status.RAISED, failure)
                continue
            refused = refusal(rules, safe=self._safe, environments=self._may_install)
            if refused := refused or self.environments.failure(rules.environment):
                self._end(key, indices, Status.RAISED, refused)
                continue
            if indices:
                parents = self._jobs.parents(group.job, group.function, rules)
                queued = QueuedTasks(
                    key, group.function, indices, bodies, rules=rules, parents=parents
                )
                self._code.enqueue(queued)

    def acknowledge(self, seq: int) -> None:
        """The broker has all results up to `seq`."""
        for ended in self._outbox.acknowledge(seq):
            self._owned.discard(ended.key, ended.final)
            if ended.blocks:
                self._out.append(effects.Free(ended.blocks))

    def taken(self, spans: list[m.Span]) -> None:
        """Clients have fetched these results."""
        for key, indices in self._held_results.matching(spans):
            self._owned.discard(key, self._free_held_results(key, indices))

    def relay(self, spans: list[m.Span]) -> None:
        """Clients cannot fetch these results: they go through the broker."""
        for key, indices in self._held_results.matching(spans):
            for index, result in self._held_results.take(key, indices).items():
                try:
                    self._outbox.add(as_sent(key, index, result))
                except (OSError, ValueError) as error:
                    self._out.append(effects.Free([result]))
                    why = Failure("manyhands.ResultError", f"the result cannot be read: {error}")
                    self._end(key, [index], Status.UNSENDABLE, why)

    def wanted(self, want: m.Want) -> None:
        """Send a held result that a task on another host has for an input; it stays here."""
        self._send(self._held_results.stock(want.key))

    def _free_held_results(self, key: Key, indices: Collection[int]) -> list[int]:
        """Hold these results no longer; returns the tasks whose results were held."""
        results = self._held_results.take(key, indices)
        if results:
            self._out.append(effects.Free(list(results.values())))
        return list(results)

    def cancel(self, spans: list[m.Span]) -> None:
        """End tasks: those that wait now, those in slots as soon as they are reached."""
        for key, indices in self._owned.matching(spans):
            waiting = self._scheduler.queue.remove(key, indices)
            waiting += self._free_held_results(key, indices)
            waiting += self._away.remove(key, indices)
            self._end(key, waiting, Status.CANCELLED, CANCELLED)
            self._doom(key, indices)

    def _doom(self, key: Key, indices: set[int]) -> None:
        """Get tasks out of the slots: back into the queue unstarted, or killed."""
        for slot in self._scheduler.slots:
            inside = self._scheduler.in_slot(slot.number, key, indices)
            if inside:
                self._doomed.add(key, inside)
                self._revoke(slot.number)

    def recall(self, count: int, now: float) -> None:
        """Give back up to `count` unstarted tasks, those behind a slow one too."""
        self._recalled += count
        if self._scheduler.queue.waiting < self._recalled:
            for slot in self._scheduler.stuck(now):
                self._revoke(slot.number)
        self._answer_recall()

    def _answer_recall(self) -> None:
        if self._recalled and not self._scheduler.revoking():
            self._give_back(self._recalled)
            self._recalled = 0

    def _give_back(self, count: int) -> None:
        self._return(self._scheduler.queue.take_back(count))

    def return_excess(self) -> None:
        """Give back tasks that others can have while their environment is made here."""
        if excess := self.environments.excess():
            self._return(excess)

    def _return(self, taken: list[tuple[Key, list[int]]]) -> None:
        for key, indices in taken:
            self._owned.discard(key, indices)
        self._send(m.Returned([m.Span(job, attempt, part) for (job, attempt), part in taken]))

    def made(self, event: events.EnvironmentMade, now: float) -> None:
        """An environment is there, or cannot be: then the tasks that need it fail."""
        for queued in self._code.made(event, now):
            failure = no_environment(self._name, event.reason)
            self._end(queued.key, queued.indices[queued.start :], Status.RAISED, failure)

    def _environments_in_use(self) -> set[bytes]:
        queued = (*self._scheduler.queue.entries(), *self._away.entries())
        batches = (batch for slot in self._scheduler.slots for batch in slot.batches)
        return {each.rules.environment for each in chain[Batch | QueuedTasks](queued, batches)}

    # From the pool

    def worn(self, event: events.Finished) -> str:
        """A task has done to a child what makes it unfit for others. Returns that, for people."""
        job = self._scheduler.worn(event.slot)
        who = f"a task of job {job}" if job else "a task"
        return f"replacing the child of slot {event.slot}: {who} {event.worn}"

    def finished(self, event: events.Finished, now: float) -> None:
        """A child reports."""
        if not event.statuses:
            return
        arguments = self._scheduler.arguments(event.slot, len(event.statuses))
        waits = self._waits(event) if REVOKED in event.statuses else None
        try:
            key, indices, statuses, bodies = self._scheduler.finished(
                event.slot, event.first, event.statuses, event.bodies, event.seconds, now
            )
        except Disorder as error:
            self.dropped += 1
            text = f"slot {event.slot} sends {error}; killing its child"
            self._out += [
                effects.Log(logging.ERROR, text),
                effects.Free([*event.blocks, *event.held_results]),
            ]
            self._kill(event.slot)
            return
        if waits is not None:
            self._put_away(*waits, now)
        if REVOKED in event.statuses:
            self._end_doomed()
        self.runs.finished(key, indices, statuses, arguments, event, now)
        late = [index for index in indices if event.held_results and self._doomed.has(key, index)]
        self._doomed.discard(key, indices)
        if event.held_results:
            self._hold(key, indices, statuses, event.held_results)
        if not self._owned.has_all(key, indices):
            stay = [at for at, index in enumerate(indices) if self._owned.has(key, index)]
            indices = [indices[at] for at in stay]
            statuses = bytes(statuses[at] for at in stay)
            bodies = [bodies[at] for at in stay]
        if indices:
            took, weight = event.seconds, (event.nbytes, event.frames)
            self._outbox.add(Ended(key, indices, statuses, bodies, took, *weight, event.blocks))
        else:
            self._out.append(effects.Free(event.blocks))
        # Cancelled, and done before that took effect: no client need fetch the result.
        if late:
            self.cancel([m.Span(*key, late)])

    def _waits(self, event: events.Finished) -> tuple[tuple[Key, int], Value] | None:
        """The task that a child gives back for a value has not come, and what it says of the value."""
        place = event.statuses.find(REVOKED)
        task = self._scheduler.holder(event.slot, event.first + place)
        value = whose(event.bodies[place])
        return None if task is None or value is None else (task, value)

    def _put_away(self, task: tuple[Key, int], value: Value, now: float) -> None:
        queued = self._scheduler.queue.take_first(*task)
        if queued is not None and self._owned.has(*task) and not self._doomed.has(*task):
            self._away.add(value, queued, now)
        elif queued is not None:
            self._scheduler.queue.push_front([queued])

    def arrived(self, key: bytes) -> None:
        """A value is here, or never will be: what waited for it can be tried again."""
        self._scheduler.queue.push_front(self._away.arrived(key))

    def return_overdue(self, now: float) -> None:
        """Give back jobs that wait for values for too long; the broker knows when to send them again."""
        if not self._away:
            return
        for owner, keys in self._away.overdue(now).items():
            self._send(m.Unheard(owner))
            spans = []
            for key in keys:
                indices = self._scheduler.queue.remove(key, _ANY) + self._away.remove(key, _ANY)
                self._owned.discard(key, indices)
                parts = range(0, len(indices), MAX_TASKS)
                spans += [m.Span(*key, indices[at : at + MAX_TASKS]) for at in parts]
            self._send(m.Returned(spans))

    def _hold(
        self, key: Key, indices: list[int], statuses: bytes, results: Sequence[HeldResult]
    ) -> None:
        """Keep results that are to be fetched, of tasks that are not given up meanwhile."""
        pairs = zip(indices, statuses, strict=True)
        held = [index for index, status in pairs if status == Status.HELD]
        for index, result in zip(held, results, strict=True):
            if self._owned.has(key, index):
                result.admit(self._jobs.fetch_key(key[0]))
                self._held_results.add(key, index, result)
            else:
                self._out.append(effects.Free([result]))

    def claimed(self, event: events.Claimed) -> None:
        """What a slot had not started is back; of what it had, the doomed one is killed."""
        self._scheduler.claimed(event.slot, event.claim)
        self._end_doomed()
        running = self._scheduler.holder(event.slot, event.claim)
        if running is not None and self._doomed.has(*running):
            self._kill(event.slot)
        self._answer_recall()

    def _end_doomed(self) -> None:
        """Doomed tasks that are back in the queue end there."""
        for key, indices in self._doomed.items():
            out = self._scheduler.queue.remove(key, indices)
            self._doomed.discard(key, out)
            self._end(key, out, Status.CANCELLED, CANCELLED)

    def born(self, slot: int) -> None:
        """A slot has a fresh child."""
        self._scheduler.born(slot)
        if not self.spare.serves(slot):  # it was closed meanwhile
            self._scheduler.worn(slot)

    def lends(self, event: events.Lends) -> None:
        """The task in a slot waits for tasks: these may have the slot and its devices; or no more."""
        task = self._scheduler.holder(event.slot, event.serial)
        self.spare.lend(event.slot, task, on=event.on)
        self._scheduler.devices.lend(event.slot, on=event.on)

    def died(self, event: events.Died, now: float) -> str:
        """A child died. Returns what happened, for people, with the task that it was running."""
        culprit, lost, arguments = self._scheduler.died(
            event.slot, event.claim, event.blamed, asked=event.asked
        )
        text = event.text
        for key, indices in lost:
            doomed = [index for index in indices if self._doomed.has(key, index)]
            self._doomed.discard(key, doomed)
            self._end(key, doomed, Status.CANCELLED, CANCELLED)
            others = [index for index in indices if index not in doomed]
            failure = Failure("manyhands.TaskLost", f"{text}; it may have run, and {ONCE}")
            self._end(key, others, Status.LOST, failure)
        if culprit is not None:
            key, index = culprit
            self.runs.died(key, index, arguments, event, now)
            text = f"{text}, running task {index} of job {key[0]}"
            if event.last_words:
                text = f"{text}; it last printed: {event.last_words}"
            if self._doomed.has(key, index):
                self._doomed.discard(key, [index])
                self._end(key, [index], Status.CANCELLED, CANCELLED)
            else:
                self._end(key, [index], *of_death(event, text, key[1], self._name))
        self._end_doomed()
        self._answer_recall()
        return text

    def _end(self, key: Key, indices: list[int], status: Status, failure: Failure) -> None:
        """Report tasks that this node itself ends, those of them that it still holds."""
        indices = [index for index in indices if self._owned.has(key, index)]
        if indices:
            body, count = failure.encode(), len(indices)
            statuses, nbytes = bytes([status]) * count, len(body) * count
            self._outbox.add(Ended(key, indices, statuses, [body] * count, 0.0, nbytes, 0, []))

    # Each turn

    def send_results(self) -> None:
        """Send what has gathered; what a task printed before its result."""
        for output in self.output.take():
            self._send(output)
        for message in self._outbox.next_messages():
            self._send(message)

    def start_tasks(self, now: float) -> None:
        """Give the slots what they can take, unless the broker is far behind with its acks."""
        if self._outbox.nbytes > UNACKNOWLEDGED_BYTES:
            return
        for number, batch in self._scheduler.next_batches(now):
            self._out.append(effects.Start(number, batch))

    def rebalance(self, now: float) -> None:
        """Replace worn children; take tasks from behind a slow one if a slot is idle."""
        for number in self._scheduler.worn_out():
            kept = self.spare.serves(number)
            self._out.append(effects.Retire(number) if kept else effects.Close(number))
        for slot in self._scheduler.blocking(now):
            self._revoke(slot.number)

    def _revoke(self, number: int) -> None:
        limit = self._scheduler.begin_revoke(number)
        if limit is not None:
            self._out.append(effects.Revoke(number, limit))

    def _kill(self, number: int) -> None:
        self._scheduler.condemn(number)
        self._out.append(effects.Kill(number))

    # Leaving

    def begin_drain(self) -> None:
        """Take back from the slots what they have not started."""
        for slot in self._scheduler.slots:
            if slot.unstarted():
                self._revoke(slot.number)

    def return_waiting(self) -> None:
        """Give everything that waits back to the broker."""
        self._scheduler.queue.push_front(self._away.take_all())
        if self._scheduler.queue.waiting:
            self._give_back(self._scheduler.queue.waiting)

    def _send(self, message: m.Message) -> None:
        self._out.append(effects.Send(message))

    def validate(self) -> None:
        """Check the invariants; for tests and the simulator.

        Raises:
            AssertionError: one is broken.
        """
        check_places(self._owned, self._scheduler, self._away, self._outbox, self._held_results)
        check_doomed(self._doomed, self._scheduler)


#: Every index.
_ANY = range(1 << 62)
