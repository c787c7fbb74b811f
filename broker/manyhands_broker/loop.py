"""The loop around the scheduler: read all there is, decide, commit, send.

Ports for peers, one thread. A turn reads what they hold, up to a bound, so that sends are never far
away. It hands each message to the core, and lets the core conclude the drain. Then it commits the
journal once, and sends. What leaves while the journal has no room, `commit_gate` says. A journal that
fails in any other way ends the loop. What host agents say goes to the coordinator, which has a log of
its own (`coordination_driver`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence

from manyhands_broker.commit_gate import CommitGate
from manyhands_broker.coordination_driver import FIRST_NUMBER, CoordinationDriver
from manyhands_broker.core import (
    Core,
    Drained,
    Effect,
    Event,
    ExpectHeartbeats,
    Forget,
    ForgetHeartbeats,
    KeysChanged,
    LinkClosed,
    Received,
    Say,
    Send,
    Stalled,
    Unwritable,
)
from manyhands_broker.journal import Journal
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import Port
from manyhands_shared.clock import Clock
from manyhands_shared.protocol.messages import Message
from manyhands_shared.spinning import SpinBudget, available_processors

log = logging.getLogger("manyhands.broker")

#: The longest that the loop spins for what is about to come, in place of sleep.
SPIN_SECONDS = 0.0003
#: Longest sleep: the loop notices within this time that it was stopped, and looks at heartbeats.
MAX_WAIT = 1.0
#: Time missing from the loop's life that counts as a stall. Scheduling noise is far below.
STALL = 0.5

Check = Callable[[float], Iterable[Event] | None]


class Loop:
    """Drives a `Core` from its ports.

    Args:
        core: the scheduler.
        journal: where its records go.
        clock: the monotonic clock.
        poller: says which descriptors are ready, those of ports and others.
        ports: where peers come in. A message goes to the first that has its peer.
        heartbeats: is told which nodes to expect heartbeats of.
        coordination: drives the coordinator; `None` where there is none.
        embedded: whether the only node is in this process.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        clock: Clock,
        poller: Poller,
        ports: Sequence[Port],
        *,
        heartbeats: Callable[[ExpectHeartbeats | ForgetHeartbeats], None],
        coordination: CoordinationDriver | None = None,
        embedded: bool = False,
    ) -> None:
        self._core = core
        self._coordination = coordination
        self._journal = journal
        self._clock = clock
        self._poller = poller
        self._ports = ports
        self._heartbeats = heartbeats
        self._embedded = embedded
        # A broker with its node inside serves one user, who may be waiting for a lone task.
        self._spin_budget = SpinBudget(can=embedded)
        self._processors = available_processors()
        self._gate = CommitGate(journal, self._send, self._pause)
        #: What events of this turn have caused, and its time.
        self._effects: list[Effect] = []
        self._now = 0.0
        self._stopping = False
        #: Whether the core has heard of something in this turn; whether the coordinator alone has.
        self._heard = self._coordinated = False
        #: Since when the ports read nothing, as the journal has no room; 0 is not.
        self._paused_at = 0.0
        self._next_checks = 0.0
        self._checks: list[Check] = []

    def each_check(self, call: Check) -> None:
        """Call `call(now)` twice a second, and hand the core what events it returns."""
        self._checks.append(call)

    def restore(self, effects: list[Effect]) -> None:
        """Do what bringing back earlier jobs asks for, before the first turn."""
        self._now = self._clock()
        self._perform(effects)
        if self._coordination is not None:
            self._coordination.restore(self._now)

    @property
    def stuck(self) -> list[str]:
        """Why nothing goes on, in a sentence; empty if all does."""
        return ["the journal cannot be written for lack of room"] if self._gate.withheld else []

    def stop(self) -> None:
        """Return from `run` after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        poll, clock = self._poller.wait, self._clock
        before = clock()
        woken = False
        while not self._stopping:
            timeout = self._timeout(before)
            if timeout > SPIN_SECONDS and woken and self._may_spin():
                ready = self._look(before) or poll(timeout)
            else:
                ready = poll(timeout)
            woken = bool(ready)
            now = clock()
            # Whatever part of this turn was neither waiting nor was asked for was taken from us:
            # SIGSTOP, a suspended machine, a swapped-out process.
            if now - before - timeout > STALL:
                self._stalled(now - before - timeout, now)
            self._turn(ready, now)
            before = clock()
            if before - now > STALL:
                self._stalled(before - now, before)
        # What broke while effects were performed is still told.
        self._perform(self._core.collect())

    def _may_spin(self) -> bool:
        """Whether a processor is free, and spinning has been of use."""
        # Where tasks keep all processors busy, it took a third of this thread's time from them.
        return self._spin_budget.worth_it() and not self._core.occupies(self._processors)

    def _look(self, now: float) -> dict[int, int]:
        """What becomes ready in a moment; nothing if nothing does."""
        until = now + SPIN_SECONDS
        while not (ready := self._poller.wait(0)):
            if self._clock() >= until:
                self._spin_budget.missed()
                return {}
            # What is to come may be worked on by another process, on this very processor.
            os.sched_yield()
        self._spin_budget.paid_off()
        return ready

    def _timeout(self, now: float) -> float:
        until = now + MAX_WAIT
        for port in self._ports:  # each of them, for they take note of what there is
            until = min(until, port.due(now))
        if self._journal.working:
            return 0.0
        coordination = self._coordination
        if coordination is not None and coordination.active and not self._paused_at:
            until = min(until, coordination.due(now))
        if self._gate.withheld:  # the core is not asked to do anything else until then
            until = min(until, self._gate.due)
        elif (wake_at := self._core.wake_at) is not None and wake_at < until:
            until = wake_at
        return until - now if until > now else 0.0

    def _turn(self, ready: dict[int, int], now: float) -> None:
        self._now = now
        take = self._take
        self._poller.call(ready)
        for port in self._ports:
            port.receive(ready, now, take)
        if now >= self._next_checks:
            self._next_checks = now + MAX_WAIT / 2
            for check in self._checks:
                for event in check(now) or ():
                    take(event)
            for port in self._ports:
                port.check(now)
        if self._gate.withheld:
            self._gate.read_on(self._core.handle(Unwritable(), now))
        elif self._heard or not self._coordinated or self._is_core_due(now):
            take(Drained())
        self._heard = self._coordinated = False
        self._perform()
        if self._coordination is not None and self._coordination.active and not self._paused_at:
            self._coordination.finish(now, self._send, self._forget)
        if self._journal.working:
            self._journal.work()
        for port in self._ports:
            port.finish()

    def _is_core_due(self, now: float) -> bool:
        wake_at = self._core.wake_at
        return self._journal.working or (wake_at is not None and wake_at <= now)

    def _take(self, event: Event) -> None:
        """Hand the core an event; its effects join those of this turn."""
        coordination = self._coordination
        if (
            coordination is not None
            and type(event) is not Drained
            and self._is_coordination(event, coordination)
        ):
            return
        self._heard = True
        try:
            caused = self._core.handle(event, self._now)
        except Exception as error:
            # One odd message must not end everybody's work.
            kind = type(event.message if isinstance(event, Received) else event).__name__
            self._core.breakdowns.of(error, None, f"{kind} could not be handled")
            log.debug("%s could not be handled", kind, exc_info=True)
            caused = self._core.collect()
        if self._gate.withheld and caused:
            caused = self._gate.admit(caused, self._now)
        self._effects += caused

    def _is_coordination(self, event: Event, coordination: CoordinationDriver) -> bool:
        """Hand the coordinator what concerns it; return whether that is all."""
        if type(event) is Received:
            only = event.message.NUMBER >= FIRST_NUMBER or event.peer in coordination.links
        elif type(event) is LinkClosed:
            only = event.peer in coordination.links
        elif type(event) is Stalled or type(event) is KeysChanged:
            coordination.take(event, self._now)
            return False
        else:
            return False
        if only:
            self._coordinated = True
            coordination.take(event, self._now)
        return only

    def _perform(self, first: Sequence[Effect] = ()) -> None:
        """Journal, then everything else, in order. Failed sends are events with effects of their own."""
        self._effects[:0] = first
        while self._effects or self._gate.withheld:
            effects, self._effects = self._effects, []
            effects = self._gate.commit(effects, self._now)
            if not effects:
                return
            closed: dict[bytes, None] = {}
            for effect in effects:
                match effect:
                    case Send(peer, message):
                        if not self._send(peer, message):
                            closed[peer] = None
                    case Forget(peer):
                        self._forget(peer)
                    case ExpectHeartbeats() | ForgetHeartbeats():
                        self._heartbeats(effect)
                    case Say(level, text, job, node):
                        log.log(level, "%s", text, extra={"job": job, "node": node})
            if closed:
                for peer in closed:
                    self._take(LinkClosed(peer))
                self._take(Drained())

    def _send(self, peer: bytes, message: Message) -> bool:
        """Send or keep for later; false if there is no such link."""
        # Not `any`: a generator costs more than most of these calls.
        for port in self._ports:
            if port.send(peer, message):
                break
        else:
            return False
        return True

    def _forget(self, peer: bytes) -> None:
        for port in self._ports:
            port.forget(peer)

    def _pause(self, on: bool) -> None:
        for port in self._ports:
            port.pause(on=on)
        if on:
            self._paused_at = self._now
        elif self._coordination is not None:
            # Nothing was heard of host agents meanwhile, and none of them is to blame.
            self._coordination.take(Stalled(self._now - self._paused_at), self._now)
            self._paused_at = 0.0

    def _stalled(self, seconds: float, now: float) -> None:
        # A node inside starts processes, which may take a while where much else is going on.
        level = logging.INFO if self._embedded else logging.WARNING
        log.log(level, "the broker did not run for %.1f s; leases are extended by that", seconds)
        for port in self._ports:
            port.stalled(now)
        self._now = now
        self._take(Stalled(seconds))
        self._perform()
