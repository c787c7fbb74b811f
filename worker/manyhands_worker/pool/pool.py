"""`NodePool`: a `multiprocessing.pool.Pool` made safe.

What goes wrong in Python's own pool, and why it cannot here:

- A killed child takes its task along and the caller waits for ever. Here the node knows what each
  child has, watches its sentinel, and says which task it was running (see `control_block`).
- Children share a queue and its lock; who dies holding the lock stops all. Here each child has a
  pipe of its own, and nothing is shared between two children.
- Helper threads unpickle results and die of one that does not load. Here the node never unpickles,
  and there are no threads: the pool registers its descriptors with the caller's selector.

The caller's loop is::

    for key, events in selector.select(timeout):
        key.data(events)
    pool.turn(now)
    for event in pool.take_events(): ...

`timeout` must not go beyond `pool.deadline`.
"""

from __future__ import annotations

import atexit
import selectors
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from types import MappingProxyType
from typing import TYPE_CHECKING

from manyhands_shared.payloads.payload import nbytes
from manyhands_shared.processes import descriptors
from manyhands_shared.protocol.messages import Inspect
from manyhands_shared.protocol.wire import MAX_FRAME_BYTES
from manyhands_shared.shm import Lender
from manyhands_shared.spinning import available_processors
from manyhands_worker.child.allowed_functions import Patterns
from manyhands_worker.child.runner import ChildLimits
from manyhands_worker.core import events
from manyhands_worker.core.model import Batch
from manyhands_worker.host.cgroup import is_memory_short, usable_memory
from manyhands_worker.host.directories import leave_removed_directory, mend
from manyhands_worker.host.gpus import NO_GPUS, Gpus
from manyhands_worker.host.process_start import Environment
from manyhands_worker.ipc.control_block import SETTLE_SECONDS
from manyhands_worker.ipc.slab import slab_size, small_slab
from manyhands_worker.pool.births import HEALTHY_SECONDS, Births
from manyhands_worker.pool.child_handle import ChildHandle
from manyhands_worker.pool.leftovers import Leftovers
from manyhands_worker.pool.lost_spans import LostSpans
from manyhands_worker.pool.oom import OomDetector
from manyhands_worker.pool.running_tasks import RunningTasks
from manyhands_worker.pool.stack_sampler import StackSampler
from manyhands_worker.values.bundle_directories import BundleDirectories

if TYPE_CHECKING:
    from manyhands_worker.values.result_server import ResultServer

#: What each child keeps of functions, by the size of their payloads.
CHILD_FUNCTION_BYTES = 32 << 20
#: A retired child that has not left by then is killed.
_LEAVE_SECONDS = 5.0
_SAMPLE_SECONDS = 0.1
#: How often to see whether memory is short.
_WEIGH_SECONDS = 0.5
_DOUBT_SECONDS = 1.0
#: Children started in one turn: each takes a few milliseconds in which nothing else moves.
_BIRTHS_PER_TURN = 4


class NodePool:
    """A fixed number of slots, each served by one child process at a time.

    Args:
        slots: how many.
        slab_bytes: size of each child's result slab, at most.
        selector: where the pool's descriptors are registered; each key's `data` is to be called
            with the events that came.
        frame_bytes: the largest single buffer of a result.
        lender: lends large results to clients on this host; None: all go through the broker.
        server: serves them to clients of other hosts.
        allowed: the functions of a safe node; `None` for any.
        leftovers: ends what tasks have started; None: killing process groups does.
        agent: where the host's agent listens.
        gpus: the node's.
        discard_output: what is printed goes nowhere, unless it is captured.
        node: the node's name.
        environments: those that there are for jobs, by the digests of their requirements.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what its children are told
        self,
        slots: int,
        slab_bytes: int,
        selector: selectors.BaseSelector,
        frame_bytes: int = MAX_FRAME_BYTES,
        lender: Lender | None = None,
        server: ResultServer | None = None,
        allowed: Patterns | None = None,
        leftovers: Leftovers | None = None,
        agent: str = "",
        gpus: Gpus = NO_GPUS,
        *,
        discard_output: bool = False,
        node: str = "",
        environments: Mapping[bytes, Environment] = MappingProxyType({}),
    ) -> None:
        self._selector = selector
        self._environments = environments
        self._leftovers = leftovers or Leftovers(None)
        self._slab_bytes = slab_bytes
        self._limits = ChildLimits(
            frame_bytes,
            CHILD_FUNCTION_BYTES,
            max(1, available_processors() // slots),
            usable_memory() // 2 // slots,
            "" if lender is None else lender.address,
            allowed,
            descriptors.usual(),
            agent,
            discard_output,
            node,
        )
        self._gpus = gpus
        self._lender = lender
        self._server = server
        self._slots = slots
        #: Those of the slots, and of spare ones, the numbers of those in `_spares`.
        self._children: list[ChildHandle | None] = [None] * slots
        self._spares: set[int] = set()
        self._leaving: dict[ChildHandle, float] = {}
        self._pids: list[int] | None = None
        # Children whose pipe is closed, and that must be dead by then.
        self._doubtful: dict[ChildHandle, float] = {}
        self._births = Births(slots)
        self._claims: dict[int, float] = {}
        self._events: list[events.Event] = []
        self._sampled_at = self._weighed_at = 0.0
        self._is_memory_short = False
        self._due = 0.0
        self._oom = OomDetector()
        self._bundles = BundleDirectories()
        self._sampler = StackSampler(lambda: self._children)
        self._running = RunningTasks()
        self._lost_spans = LostSpans(node)
        self._told_of_slab = False
        self._mended = False
        # multiprocessing would wait for children at exit; they must be gone by then.
        atexit.register(self.close)

    @property
    def pids(self) -> list[int]:
        """Process ids of all children. The same list as long as they are the same."""
        if self._pids is None:
            here = [child.pid for child in self._children if child is not None]
            self._pids = here + [child.pid for child in self._leaving]
        return self._pids

    @property
    def groups(self) -> list[int]:
        """Process groups that must not outlive the node. As a rule the same list, as `pids` is."""
        others = self._leftovers.groups
        return self.pids + others if others else self.pids

    def pid(self, slot: int) -> int:
        """Process id of a slot's child; 0 if it has none just now."""
        child = self._children[slot]
        return child.pid if child is not None else 0

    def take_events(self) -> list[events.Event]:
        """What has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def deadline(self) -> float:
        """When `turn` has something to do, if no descriptor does. To be asked for before each turn."""
        due = min(self._leftovers.due, self._sampler.due)
        for waits in (self._births.due, self._claims, self._leaving, self._doubtful):
            if waits:
                due = min(due, *waits.values())
        sampled = self._births.failed or self._running
        for child in self._children:
            if child is not None:
                due = min(due, child.check_at, child.output.due)
                sampled = sampled or child.busy or child.lends
        self._due = min(due, self._sampled_at + _SAMPLE_SECONDS) if sampled else due
        return self._due

    # What the core wants

    def start(self, slot: int, batch: Batch) -> None:
        """Hand a batch to a slot's child."""
        child = self._children[slot]
        if child is None:
            return
        if child.environment_name != batch.rules.environment:
            moved = self._move(child, batch.rules.environment)
            if moved is None:
                return
            child = moved
        modules = None
        if child.bundle != (digest := batch.rules.bundle):
            in_use = {other.bundle for other in self._children if other is not None}
            modules = self._bundles.use(digest, nbytes(batch.modules), in_use)
        variables = self._gpus.variables(batch.devices) if batch.devices else None
        if variables and child.forget_loan():
            self._events.append(events.Lends(slot, on=False))
        if not child.send(batch, modules, variables):
            self._selector.modify(
                child.socket,
                selectors.EVENT_READ | selectors.EVENT_WRITE,
                self._on_pipe(child),
            )

    def _move(self, child: ChildHandle, name: bytes) -> ChildHandle | None:
        """Replace a child that has run nothing by one in an environment; None if that cannot start."""
        slot, now = child.slot, time.monotonic()
        self.retire(slot, now)
        try:
            moved = self._bear(slot, name)
        except (OSError, EOFError) as error:
            self._births.due[slot] = now + self._births.next_delay(slot)
            text = f"cannot start a child for slot {slot} in its environment: {error}"
            self._events.append(events.Trouble("child-start-failed", text))
            self._events.append(events.Died(slot, 0, 0, text, asked=True))
            return None
        del self._births.due[slot]
        return moved

    def revoke(self, slot: int, limit: int, now: float) -> None:
        """Have a slot start nothing from serial `limit` on. `Claimed` or `Died` follows."""
        child = self._children[slot]
        if child is not None:
            child.revoke(limit)
            self._claims[slot] = now + SETTLE_SECONDS

    def kill(self, slot: int) -> None:
        """Kill a slot's child and everything it has started. `Died` follows, then `Born`."""
        child = self._children[slot]
        if child is not None:
            child.asked = True
            self._leftovers.end(child)

    def retire(self, slot: int, now: float) -> None:
        """Replace a child that has nothing left to do. `Born` follows."""
        child = self._children[slot]
        if child is not None:
            self._children[slot] = None
            if child.lends:
                self._events.append(events.Lends(slot, on=False))
            if not child.closed:
                self._selector.unregister(child.socket)
            child.retire()
            self._leaving[child] = now + _LEAVE_SECONDS
            self._births.due[slot] = now

    def open_slot(self, slot: int) -> None:
        """Give a spare slot a child. `Born` follows."""
        while len(self._children) <= slot:
            self._children.append(None)
        self._spares.add(slot)
        self._births.due[slot] = 0.0

    def close_slot(self, slot: int, now: float) -> None:
        """End a spare slot's child, which has nothing left to do."""
        self._spares.discard(slot)
        self.retire(slot, now)
        self._births.due.pop(slot, None)

    def inspect(self, order: Inspect, now: float) -> None:
        """Look at what children do. `Inspected` follows."""
        self._sampler.begin(order, now)

    # Each turn

    def turn(self, now: float) -> None:
        """Do what is due: read claims, fill empty slots, end children that do not leave."""
        if now < self._due:
            return
        if self._births.failed and self._anyone() and self._births.succeed():
            self._events.append(events.Able())
        for slot in [slot for slot, due in self._claims.items() if now >= due]:
            del self._claims[slot]
            child = self._children[slot]
            if child is not None:
                self._events.append(events.Claimed(slot, child.claim))
        for slot in [s for s, due in self._births.due.items() if now >= due][:_BIRTHS_PER_TURN]:
            self._fill(slot, now)
        for child in [child for child, due in self._leaving.items() if now >= due]:
            self._leaving[child] = now + _LEAVE_SECONDS
            self._leftovers.end(child)
        for child in [child for child, due in self._doubtful.items() if now >= due]:
            del self._doubtful[child]
            child.fault = child.fault or "it closed its connection to the node"
            self._leftovers.end(child)
        for member in filter(None, self._children):
            self._look_at(member, now)
        if now >= self._sampler.due:
            self._events += self._sampler.turn(now)
        self._leftovers.turn(now, self.pids)
        if now >= self._sampled_at + _SAMPLE_SECONDS:
            self._sample(now)

    def _sample(self, now: float) -> None:
        """See how much memory busy children have, and whether there is room for results."""
        self._sampled_at = now
        self._oom.note(now)
        self._events += self._running.look(self._children, now)
        if now >= self._weighed_at + _WEIGH_SECONDS:
            self._weighed_at = now
            self._is_memory_short = is_memory_short()
            if self._is_memory_short and self._lender is not None:
                self._lender.recall()
        allowed = not (self._is_memory_short or descriptors.running_short())
        for child in filter(None, self._children):
            child.reports.hold(allowed=allowed)
            if child.look_whether_lends(now):
                self._events.append(events.Lends(child.slot, child.lends, child.lending))
            if child.busy or not child.rss:
                child.sample()
                if child.uses_too_much(now):
                    self.kill(child.slot)

    def _look_at(self, child: ChildHandle, now: float) -> None:
        """Kill a child whose task runs too long; send on what it printed a while ago."""
        if now >= child.check_at and child.runs_too_long(now):
            self.kill(child.slot)
        if now >= child.output.due:
            self._listen(child)

    def _fill(self, slot: int, now: float) -> None:
        del self._births.due[slot]
        self._events += [
            events.Trouble("directory-removed", told) for told in leave_removed_directory()
        ]
        try:
            self._bear(slot)
        except (OSError, EOFError) as error:
            # Once: what does not help is not tried without a pause.
            mended = [] if self._mended else mend()
            self._mended = bool(mended)
            wait_for = 0.0 if mended else self._births.next_delay(slot)
            self._births.due[slot] = now + wait_for
            again = f"trying again in {wait_for:g} s" if wait_for else "; ".join(mended)
            text = f"cannot start a child for slot {slot}: {error}; {again}"
            self._events.append(events.Trouble("child-start-failed", text))
            if not mended:
                self._failed(text)
            return
        self._mended = False
        self._events.append(events.Born(slot))

    def _bear(self, slot: int, environment: bytes = b"") -> ChildHandle:
        """Start a child for a slot.

        Raises:
            OSError, EOFError: the system gives no process, descriptor or memory.
        """
        size = slab_size(self._slab_bytes, self._slots)
        child = ChildHandle(
            slot,
            size,
            self._limits,
            self._lender,
            self._server,
            self._environments[environment] if environment else None,
            environment,
        )
        if size < self._slab_bytes and not self._told_of_slab:
            self._told_of_slab = True
            self._events.append(events.Trouble("small-shm", small_slab(size, self._slab_bytes)))
        self._leftovers.enter(child)
        self._children[slot] = child
        self._pids = None
        self._selector.register(child.socket, selectors.EVENT_READ, self._on_pipe(child))
        self._hear(child)
        self._selector.register(child.sentinel, selectors.EVENT_READ, self._on_death(child))
        return child

    def _failed(self, text: str) -> None:
        """One more child in a row did not come as far as waiting for work."""
        if self._births.fail(without_children=not self._anyone()):
            self._events.append(events.Unable(text))

    def _anyone(self) -> bool:
        """Whether a child is ready for work."""
        return any(child is not None and child.ready for child in self._children)

    def _on_pipe(self, child: ChildHandle) -> Callable[[int], None]:
        def handle(events: int) -> None:
            if child.closed:
                return  # its death was seen first, in this very turn
            if events & selectors.EVENT_WRITE and child.flush():
                self._selector.modify(child.socket, selectors.EVENT_READ, handle)
            if events & selectors.EVENT_READ:
                self._receive(child)

        return handle

    def _on_output(self, child: ChildHandle) -> Callable[[int], None]:
        def handle(_: int) -> None:
            if child.heard:  # else its death was seen first, in this very turn
                self._listen(child)

        return handle

    def _listen(self, child: ChildHandle, *, last: bool = False) -> None:
        """Read what a child's tasks have printed; `last`: tell all of it, for it is dead."""
        self._events += child.printed(last=last)
        self._hear(child)

    def _hear(self, child: ChildHandle) -> None:
        """Wait for a child's output as it is now."""
        if child.heard != child.output.fds:
            child.hear(self._selector, child.output.fds, self._on_output(child))

    def _take(self, child: ChildHandle, *, last: bool = False) -> None:
        """Read what a child has sent. What a task printed is told before its result."""
        reports = child.receive(last=last)
        if reports:
            self._leftovers.search_soon()
        if child.captures and reports:
            self._events += child.printed_before(reports)
            self._hear(child)
        self._events += reports

    def _receive(self, child: ChildHandle) -> None:
        self._take(child)
        if child.closed:
            self._selector.unregister(child.socket)
            # Mostly it is dying, and its sentinel will tell of what.
            self._doubtful[child] = time.monotonic() + (0.0 if child.fault else _DOUBT_SECONDS)

    def _on_death(self, child: ChildHandle) -> Callable[[int], None]:
        def handle(_: int) -> None:
            self._selector.unregister(child.sentinel)
            self._doubtful.pop(child, None)
            self._pids = None
            if self._leaving.pop(child, None) is None:
                self._report_death(child)
            child.hear(self._selector)
            self._leftovers.release(child)

        return handle

    def _report_death(self, child: ChildHandle) -> None:
        """A child that should have lived is dead."""
        slot = child.slot
        if not child.closed:
            self._selector.unregister(child.socket)
            # What it had handed over whole before it died, counts.
            self._take(child, last=True)
        if child.captures:
            self._listen(child, last=True)
        if child.lends:
            self._events.append(events.Lends(slot, on=False))
        self._children[slot] = None
        self._claims.pop(slot, None)
        now = time.monotonic()
        # What cannot start in an environment can do so outside.
        if not (child.ready or child.asked or child.environment_name):
            self._failed(child.describe_death())
        # What dies of a task does not die of its start: others need its slot at once.
        is_old = now - child.started_at > HEALTHY_SECONDS
        healthy = child.asked or (child.ready and (bool(child.claim) or is_old))
        delay = self._births.after_death(slot, healthy=healthy)
        if slot < self._slots or slot in self._spares:
            self._births.due[slot] = now + delay
        short = child.shot and (self._oom.explains(now) or child.memory.has_killed)
        oom = self._oom.words if short else ""
        self._lost_spans.died(child, child.describe_death(oom))
        self._events.append(child.death(oom))

    def close(self) -> None:
        """Kill all children and wait until they are gone. Nothing works after this."""
        atexit.unregister(self.close)
        self._births.due.clear()
        here = [child for child in self._children if child is not None]
        for child in here:
            if not child.closed:
                self._selector.unregister(child.socket)
        everyone = [*here, *self._leaving]
        self._leftovers.look(self.pids)
        for child in everyone:
            self._leftovers.end(child)
            self._selector.unregister(child.sentinel)
            child.hear(self._selector)
        for child in everyone:
            if wait([child.sentinel], timeout=_LEAVE_SECONDS):
                self._leftovers.release(child)
        self._leftovers.close()
        self._children = [None] * len(self._children)
        self._leaving.clear()
        self._doubtful.clear()
        self._claims.clear()
        self._oom.close()
        self._lost_spans.close()
