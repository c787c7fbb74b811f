"""What a node decides: the pure core, with no socket, process, clock or file in it.

`NodeCore.handle(event, now)` takes an event and returns effects (see `events`). Most events only
change its tables. `Tick` ends each turn of the loop: it gives out tasks and sends what has gathered.
So a busy node amortises and an idle one answers at once.

This module holds the link and the node's way out; `workload` holds the tasks.

The link goes through `Phase`: hello when it is up, and from the welcome on work is exchanged.
Results are numbered anew from each welcome. The lease runs from the sending of the last `Renew` that
was answered. When it has run out the node does not trust the link, makes another, and learns from
`keep` what still counts; tasks run on meanwhile.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from manyhands_shared.errors import KEY_CODES, ExitCode
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.bounds import MAX_TASKS
from manyhands_shared.text import amount
from manyhands_worker.core import effects, events
from manyhands_worker.core.leased_link import LeasedLink, Phase
from manyhands_worker.core.workload import Workload

_WAITING_EVENTS = 64
#: The numbers of `AgentWanted` and `AgentAt`, whose module a node without programs does not load.
_AGENT_WANTED, _AGENT_AT = 64, 104


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is: what its hello says, and when it leaves. `window` in tasks, times in seconds.

    It drains by itself `time_limit` after its start, and when it has had nothing for `idle_timeout`;
    0 is never. A `safe` one takes no pickles. `devices`: what it offers of each GPU, by name.
    `environments`: it makes them for jobs with requirements.
    """

    name: str
    boot_id: bytes
    slots: int
    window: int
    drain_timeout: float
    info: Mapping[str, Any] = field(default_factory=dict)
    idle_timeout: float = 0.0
    time_limit: float = 0.0
    safe: bool = False
    devices: Mapping[str, float] = field(default_factory=dict)
    environments: bool = True


class NodeCore:
    """The state of a node and its one entry, `handle`."""

    def __init__(self, identity: Identity) -> None:
        self._me = identity
        self._now = 0.0
        self._link = LeasedLink()
        self._out: list[effects.Effect] = []
        self._work = Workload(
            identity.name,
            identity.slots,
            self._out,
            identity.devices,
            safe=identity.safe,
            environments=identity.environments,
        )
        # What people should know, and the broker has no link to be told by.
        self._notices: list[m.Event] = []
        # Stored values that were asked for, and who keeps them.
        self._wants: dict[bytes, bytes] = {}
        #: The number of slots that the broker was told.
        self._told_slots = identity.slots
        self._drain_by: float | None = None
        #: When it drains by itself: at the end of its time, or of its idle time.
        self._leave_at = self._bored_at = math.inf
        self._stopped = False
        #: No child can be started.
        self._unable = False
        self._dropped = 0
        work = self._work
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Tick: self._tick,
            events.Finished: self._finished,
            events.Received: self._received,
            events.Printed: self._work.output.add,
            events.Claimed: self._work.claimed,
            events.Died: self._died,
            events.EnvironmentMade: lambda event: self._work.made(event, self._now),
            events.Lends: self._work.lends,
            events.Born: lambda event: self._work.born(event.slot),
            events.Trouble: lambda event: self._notice(event.kind, event.text),
            events.AgentDied: self._agent_died,
            events.Unable: self._cannot_work,
            events.Able: self._can_work,
            events.LinkUp: lambda _: self._hello(),
            events.LinkLost: self._link_lost,
            events.Wanted: self._want,
            events.Arrived: lambda event: self._work.arrived(event.key),
            events.Inspected: self._inspected,
            events.Running: lambda event: work.runs.follow(event.tasks, self._now),
            events.Leave: self._leave,
        }
        # The greeting decides what all other messages mean, so they count only after it.
        self._greeting: dict[type, Callable[[Any], None]] = {
            m.WorkerWelcome: self._welcome,
            m.Refused: self._refused,
            m.Bye: self._bye,
        }
        self._ready: dict[type, Callable[[Any], None]] = {
            m.Refused: self._refused,
            m.Bye: self._bye,
            m.Who: self._who,
            m.Ping: lambda message: self._send(m.Pong(message.counter)),
            m.Pong: lambda message: work.output.heard_of(message.counter),
            m.Lease: self._lease_extended,
            m.Function: work.function,
            m.Given: work.given,
            m.Assign: self._assign,
            m.Ack: lambda message: work.acknowledge(message.seq),
            m.Cancel: lambda message: work.cancel(message.spans),
            m.Taken: lambda message: work.taken(message.spans),
            m.Relay: lambda message: work.relay(message.spans),
            m.JobsOver: lambda message: work.jobs_over(message.spans),
            m.Stock: self._stocked,
            m.Want: work.wanted,
            m.Recall: lambda message: work.recall(message.count, self._now),
            m.Inspect: lambda message: self._out.append(effects.Inspect(message)),
            m.Drain: lambda message: self._begin_drain(message.reason),
        }

    def handle(self, event: events.Event, now: float) -> list[effects.Effect]:
        """Take one event at time `now` (seconds, never falling); returns what is to be done."""
        if self._stopped:
            return []
        self._now = now
        self._handlers[type(event)](event)
        effects = self._out[:]
        self._out.clear()
        return effects

    @property
    def phase(self) -> Phase:
        """How far the present link has come."""
        return self._link.phase

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""
        return self._drain_by is not None

    @property
    def running(self) -> int:
        """Slots that have tasks."""
        return self._work.running

    @property
    def dropped(self) -> int:
        """Messages and reports that made no sense and were dropped."""
        return self._dropped + self._work.dropped

    def deadline(self, now: float) -> float:
        """When the next `Tick` is due at the latest, if nothing else happens."""
        work = self._work
        told = min(work.overdue_at, work.runs.due) if self._link.is_ready else math.inf
        leave = min(self._leave_at, self._bored_at) if self._drain_by is None else self._drain_by
        return min(self._link.due, told, leave, work.deadline(now))

    def validate(self) -> None:
        """Check the invariants; for tests and the simulator. Raises AssertionError."""
        self._work.validate()
        assert not self._out, "effects were left behind"

    # The link

    def _hello(self) -> None:
        me = self._me
        self._told_slots = me.slots
        self._link.greeted(self._now)
        self._send(
            m.WorkerHello(
                m.PROTOCOL_VERSION,
                me.name,
                me.boot_id,
                me.slots,
                self._window(),
                # The broker gives what is left out here to others, and lets none of it be kept.
                self._work.holding()[:MAX_TASKS],
                dict(me.info),
            )
        )

    def _slots(self) -> int:
        """Its slots, for the broker. A task that waits for its environment counts as one more."""
        return self._me.slots + self._work.spare.count + self._work.environments.waiting

    def _window(self) -> int:
        """Tasks that it takes at once. One that waits for tasks must not keep these out."""
        if self._drain_by is not None or self._unable:
            return 0
        return min(self._me.window + self._work.spare.count, MAX_TASKS)

    def _link_lost(self, event: events.LinkLost) -> None:
        if self._link.phase is not Phase.DOWN:
            self._log(logging.WARNING, f"the link to the broker is lost: {event.reason}")
        self._link.lost()

    def _give_up_link(self, reason: str) -> None:
        self._link.lost()
        self._log(logging.WARNING, f"giving up the link to the broker: {reason}")
        self._out.append(effects.Reconnect(reason))

    def _received(self, event: events.Received) -> None:
        receivers: dict[type, Callable[[Any], None]] = {}
        if self._link.is_ready:
            receivers = self._ready
        elif self._link.phase is Phase.GREETING:
            receivers = self._greeting
        receiver = receivers.get(type(event.message))
        if receiver is None and event.message.NUMBER == _AGENT_WANTED:
            self._out.append(effects.StartAgent())
        elif receiver is None and event.message.NUMBER == _AGENT_AT:
            found: Any = event.message
            self._out.append(effects.PassOn(found.address))
        elif receiver is None:
            self._dropped += 1
        else:
            receiver(event.message)

    def _welcome(self, message: m.WorkerWelcome) -> None:
        self._link.welcomed(message.lease, message.renew_interval)
        self._work.welcome(message.keep)
        self._work.runs.tell_again(self._now)
        self._out.append(
            effects.Beat(
                message.beat_port,
                message.beat_row,
                message.beat_key,
                message.beat_interval,
                message.hash_seed,
            )
        )
        if self._work.spare.count:
            # Behind the hello, by which the broker counts what the node has.
            self._renew()
        for key, owner in self._wants.items():
            self._send(m.Want(key, owner))
        for notice in self._notices:
            self._send(notice)
        self._notices.clear()
        self._log(
            logging.INFO, f"welcomed as {self._me.name} with {amount(self._me.slots, 'slot')}"
        )

    def _refused(self, message: m.Refused) -> None:
        about_key = message.code in KEY_CODES
        code = ExitCode.NOT_AUTHORISED if about_key else ExitCode.JOB_FAILED
        self._stop(code, f"the broker refuses this node: {message.reason}")

    def _bye(self, message: m.Bye) -> None:
        self._give_up_link(f"the broker leaves: {message.reason}")

    def _who(self, message: m.Who) -> None:
        broker = message.broker.hex()[:8]
        self._log(logging.WARNING, f"broker {broker} does not know this node; saying hello again")
        self._hello()

    def _lease_extended(self, message: m.Lease) -> None:
        if not self._link.extended(message.counter):
            self._dropped += 1

    def _renew(self) -> None:
        self._told_slots = self._slots()
        counter, lent = self._link.renew(self._now), self._work.spare.lent
        self._send(m.Renew(counter, self._told_slots, self._window(), lent))

    # Stored values

    def _want(self, event: events.Wanted) -> None:
        self._wants[event.key] = event.owner
        if self._link.is_ready:
            self._send(m.Want(event.key, event.owner))

    def _stocked(self, message: m.Stock) -> None:
        self._wants.pop(message.key, None)
        self._out.append(effects.Supply(message.key, message.bodies))

    # What people should know

    def _inspected(self, event: events.Inspected) -> None:
        if self._link.is_ready:
            self._send(event.answer)

    def _assign(self, message: m.Assign) -> None:
        self._work.runs.arrived(message, self._now)
        self._work.assign(message)

    def _finished(self, event: events.Finished) -> None:
        self._work.finished(event, self._now)
        if event.worn:
            self._notice("child-unfit", self._work.worn(event))

    def _died(self, event: events.Died) -> None:
        text = self._work.died(event, self._now)
        if not event.asked:
            self._notice("child-died", text)

    def _agent_died(self, event: events.AgentDied) -> None:
        # 4 ms, where there is an agent.
        from manyhands_shared.protocol.messages.coordination import AgentEnded  # noqa: PLC0415

        self._notice("agent-died", event.reason)
        if self._link.is_ready:
            host = str(self._me.info.get("host_id", ""))
            self._send(AgentEnded(host, event.agent, event.reason[: m.EVENT_CHARS]))

    def _notice(self, kind: str, text: str) -> None:
        """Tell the log, and the broker's people."""
        self._log(logging.WARNING, text)
        notice = m.Event(kind, text[: m.EVENT_CHARS], {})
        if self._link.is_ready:
            self._send(notice)
        elif len(self._notices) < _WAITING_EVENTS:
            self._notices.append(notice)

    # Without children

    def _cannot_work(self, event: events.Unable) -> None:
        self._unable = True
        text = f"{event.text}; without any child this node gives its tasks back and takes no others"
        self._notice("no-children", text)
        self._tell_window()

    def _can_work(self, _: events.Able) -> None:
        self._unable = False
        self._notice("children-again", "children start again; taking tasks")
        self._tell_window()

    def _tell_window(self) -> None:
        if self._link.is_ready:
            self._renew()

    # Leaving

    def _leave(self, event: events.Leave) -> None:
        if not event.now:
            self._begin_drain(event.reason)
            return
        if self._link.is_ready:
            self._send(m.Bye(event.reason))
        self._log(logging.DEBUG, f"leaving at once: {event.reason}")
        self._stop(ExitCode.INTERRUPTED, "")

    def _begin_drain(self, reason: str) -> None:
        if self._drain_by is not None:
            return
        self._drain_by = self._now + self._me.drain_timeout
        self._log(logging.INFO, f"draining: {reason}")
        self._tell_window()
        self._work.begin_drain()

    def _check_time(self) -> None:
        """Drain if the node's time is over, or it has had nothing to do for too long."""
        me, now = self._me, self._now
        if me.time_limit:
            if self._leave_at == math.inf:
                self._leave_at = now + me.time_limit
            if now >= self._leave_at:
                self._begin_drain(f"its time limit of {me.time_limit:g} s is over")
        if me.idle_timeout:
            if len(self._work) or self._bored_at == math.inf:
                self._bored_at = now + me.idle_timeout
            elif now >= self._bored_at:
                self._begin_drain(f"it had nothing to do for {me.idle_timeout:g} s")

    def _continue_drain(self, drain_by: float) -> None:
        ready = self._link.is_ready
        if ready:
            self._work.return_waiting()
        left = len(self._work)
        if left and self._now < drain_by:
            return
        if left:
            self._log(logging.WARNING, f"the drain took too long; giving up {amount(left, 'task')}")
        if ready:
            self._send(m.Bye(f"drained, {amount(left, 'task')} given up" if left else "drained"))
        self._stop(ExitCode.OK, "")

    # Each turn

    def _tick(self, _: events.Tick) -> None:
        work, now = self._work, self._now
        if now >= self._link.due:
            self._check_link()
        changed = work.spare.turn()
        if work.environments.active:
            changed = self._turn_environments() or changed
        if changed:
            self._tell_window()
        if self._drain_by is None:
            self._check_time()
        if self._drain_by is None and not self._unable:
            work.start_tasks(now)
        if self._link.is_ready:
            if self._unable:
                work.return_waiting()
            work.return_overdue(now)
            work.send_results()
            if now >= work.runs.due:
                self._send(work.runs.take(now))
            if work.ignorant:
                work.ignorant = False
                self._hello()
        if self._drain_by is not None:
            self._continue_drain(self._drain_by)
        work.rebalance(now)

    def _turn_environments(self) -> bool:
        """Give back tasks that others can have; return whether the number of slots has changed."""
        environments = self._work.environments
        if self._link.is_ready:
            self._work.return_excess()
            environments.turn(self._now)
        return self._told_slots != self._slots()

    def _check_link(self) -> None:
        if fault := self._link.fault(self._now):
            self._give_up_link(fault)
        elif self._link.renewal_is_due(self._now):
            self._renew()

    def _send(self, message: m.Message) -> None:
        self._out.append(effects.Send(message))

    def _log(self, level: int, text: str) -> None:
        self._out.append(effects.Log(level, text))

    def _stop(self, code: ExitCode, text: str) -> None:
        self._stopped = True
        self._out.append(effects.Stop(code, text))
