"""What a host agent decides: `AgentCore.handle(event, now)` takes an event and returns effects.

This module holds the link to the broker, its lease, and the agent's way out. `programs` holds
programs, members and what passes between them and the broker.

The link is a node's: hello, welcome, and a lease that runs from the sending of the last `Renew` that
was answered. At `FREEZE_SHARE` of it, before the broker gives away what they hold, the agent stops the
members whose root is elsewhere. The next welcome says which of them go on. A member whose root is
here is in no danger: the broker gives such a program the root's grace.

After a welcome the agent repeats what the broker may not have (`repeats`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from manyhands_shared.errors import KEY_CODES, ExitCode
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.identity import AgentIdentity
from manyhands_worker.agent.core.memory.delegations import Delegations
from manyhands_worker.agent.core.memory.mirrors import Mirrors
from manyhands_worker.agent.core.memory.segment import Source
from manyhands_worker.agent.core.programs import Programs
from manyhands_worker.agent.core.streams import Streams
from manyhands_worker.agent.core.tables import Tables
from manyhands_worker.core.leased_link import LeasedLink, Phase

#: Of the lease; the rest is for clocks that do not run alike.
FREEZE_SHARE = 0.9
#: How long an agent that leaves waits for the broker to take the ends of its members.
FAREWELL_SECONDS = 2.0


class AgentCore:
    """The state of a host agent and its one entry, `handle`.

    Args:
        identity: who it is.
        source: of the memory that members share.
    """

    def __init__(self, identity: AgentIdentity, source: Source) -> None:
        self._me = identity
        self._now = 0.0
        self._link = LeasedLink()
        self._out: list[effects.Effect] = []
        self._tables = Tables(self._out, self._send)
        streams = self._streams = Streams(self._tables, self._out, self._send, identity.agent)
        self._mirrors = Mirrors(self._tables, self._out, self._send, source)
        delegations = self._delegations = Delegations(self._tables, self._out, self._send, source)
        self._programs = Programs(
            self._tables, self._out, self._send, identity.host, streams, self._mirrors, delegations
        )
        #: Of renewals that are not answered: when each was sent, and what had been said before it.
        # What was said before each renewal that is not answered yet.
        self._places: dict[int, int] = {}
        self._drain_by: float | None = None
        self._leave_by: float | None = None
        self._code = ExitCode.OK
        self._stopped = False
        #: Messages that made no sense here.
        self.dropped = 0
        programs = self._programs
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.LinkUp: lambda _: self._hello(),
            events.LinkLost: self._link_lost,
            events.Received: self._received,
            events.Heard: programs.heard,
            events.Closed: programs.closed,
            events.Forked: programs.forked,
            events.NotForked: programs.not_forked,
            events.Reaped: programs.reaped,
            events.Printed: programs.printed,
            events.StreamRead: streams.read,
            events.StreamWrote: streams.wrote,
            events.StreamBroken: streams.broken,
            events.StreamFailed: streams.failed,
            events.ReadAll: delegations.read,
            events.NoServer: self._no_server,
            events.Leave: self._leave,
            events.Tick: self._tick,
        }
        self._greeting: dict[type, Callable[[Any], None]] = {
            c.AgentWelcome: self._welcome,
            m.Refused: self._refused,
            m.Bye: self._bye,
        }
        self._ready: dict[type, Callable[[Any], None]] = {
            m.Refused: self._refused,
            m.Bye: self._bye,
            m.Who: self._who,
            m.Ping: lambda message: self._send(m.Pong(message.counter)),
            m.Lease: self._lease_extended,
            **programs.receivers,
            **streams.receivers,
        }

    def handle(self, event: events.Event, now: float) -> list[effects.Effect]:
        """Take an event; return what is to be done, in that order."""
        self._now = self._tables.now = now
        if not self._stopped:
            self._handlers[type(event)](event)
        effects = self._out.copy()
        self._out.clear()
        return effects

    @property
    def ready(self) -> bool:
        """Whether the broker has taken the agent in."""
        return self._link.is_ready

    @property
    def members(self) -> int:
        """Processes of members that the agent has made and that run."""
        return len(self._tables.hosted)

    @property
    def draining(self) -> bool:
        """Whether the agent is about to leave."""
        return self._drain_by is not None

    def deadline(self) -> float:
        """When the next `Tick` is due at the latest, if nothing else happens."""
        times = [self._drain_by, self._leave_by, self._tables.deadline, self._link.due]
        times += (self._streams.deadline, self._delegations.deadline)
        if self._link.is_ready:
            times.append(self._mirrors.deadline)
        if self._link.lease and not self._tables.frozen:
            times.append(self._frozen_at)
        return min(at for at in times if at is not None)

    def validate(self) -> None:
        """Check the invariants; for tests and the simulator. Raises AssertionError."""
        self._tables.validate()
        self._mirrors.validate()
        self._delegations.validate()
        assert not self._out, "effects were left behind"

    # The link

    def _hello(self) -> None:
        me = self._me
        self._link.greeted(self._now)
        self._out.append(
            effects.Send(
                c.AgentHello(
                    m.PROTOCOL_VERSION,
                    me.host,
                    me.node,
                    me.boot_id,
                    me.agent,
                    me.address,
                    self._capacity(),
                    self._tables.states(),
                    self._tables.rooted(),
                    dict(me.info),
                )
            )
        )

    def _capacity(self) -> int:
        return 0 if self.draining else self._me.capacity

    def _link_lost(self, _: events.LinkLost) -> None:
        if self._link.phase is not Phase.DOWN:
            self._log(logging.INFO, "the link to the broker is lost")
        self._link.lost()

    def _give_up_link(self, reason: str) -> None:
        self._link.lost()
        self._log(logging.WARNING, f"giving up the link to the broker: {reason}")
        self._out.append(effects.Reconnect())

    def _received(self, event: events.Received) -> None:
        receivers = self._ready if self._link.is_ready else self._greeting
        receiver = None
        if self._link.phase is not Phase.DOWN:
            receiver = receivers.get(type(event.message))
        if receiver is None:
            self.dropped += 1
        else:
            receiver(event.message)

    def _welcome(self, message: c.AgentWelcome) -> None:
        self._link.welcomed(message.lease, message.renew_interval)
        self._places.clear()
        self._programs.welcomed(message.keep)
        self._guard()
        self._streams.welcomed()
        self._mirrors.welcomed()

    def _refused(self, message: m.Refused) -> None:
        if message.code == "agent-taken":
            # It has accepted no connection. Its node passes them on.
            self._stop(ExitCode.OK, "")
            return
        about_key = message.code in KEY_CODES
        code = ExitCode.NOT_AUTHORISED if about_key else ExitCode.JOB_FAILED
        text = f"the broker refuses the host agent: {message.reason}"
        self._programs.refuse_all(text)
        self._tables.kill_hosted(text)
        self._stop(code, text)

    def _bye(self, message: m.Bye) -> None:
        self._give_up_link(f"the broker leaves: {message.reason}")

    def _who(self, _: m.Who) -> None:
        self._hello()

    def _lease_extended(self, message: m.Lease) -> None:
        if not self._link.extended(message.counter):
            self.dropped += 1
            return
        place = self._places[message.counter]
        self._guard()
        if self._now < self._frozen_at:
            # The answer came late, but the broker has not given this link up: nothing is given away.
            self._tables.thaw_all()
        self._tables.repeats.arrived(place)
        self._mirrors.arrived(place)
        self._places = {n: one for n, one in self._places.items() if n > message.counter}

    @property
    def _frozen_at(self) -> float:
        """When members stop to be given anything, unless the lease is renewed before."""
        return self._link.leased_at + self._link.lease * FREEZE_SHARE

    def _guard(self) -> None:
        if self._me.capacity:
            self._out.append(effects.Guard(self._frozen_at))

    def _renew(self) -> None:
        counter = self._link.renew(self._now)
        self._mirrors.unconfirmed = 0
        self._places[counter] = self._tables.repeats.place
        self._out.append(effects.Send(m.Renew(counter, 0, min(self._capacity(), 65_535), [])))

    def _send(self, message: m.Message) -> None:
        """Send what is of use on this link alone, or is repeated on the next."""
        if self._link.is_ready:
            self._out.append(effects.Send(message))

    # Leaving

    def _no_server(self, event: events.NoServer) -> None:
        """Leave when members cannot be started any more; another agent takes this one's place."""
        self._tables.kill_hosted(event.reason)
        self._begin_farewell(ExitCode.JOB_FAILED, event.reason)

    def _leave(self, event: events.Leave) -> None:
        if event.now:
            self._tables.kill_hosted(event.reason)
            if not self._me.capacity:
                # It has the root's word, or what started it: the root has ended.
                self._programs.end_roots()
            self._begin_farewell(ExitCode.OK, event.reason)
        elif self._drain_by is None:
            self._drain_by = self._now + self._me.drain_timeout
            if self._link.is_ready:
                self._renew()

    def _begin_farewell(self, code: ExitCode, reason: str) -> None:
        self._code = code
        if self._leave_by is None:
            self._leave_by = self._now + FAREWELL_SECONDS
            self._log(logging.INFO if code is ExitCode.OK else logging.ERROR, reason)

    def _check_leaving(self) -> None:
        now, tables = self._now, self._tables
        if self._leave_by is not None:
            if now >= self._leave_by or not (tables.hosted or tables.unacknowledged):
                self._farewell("leaving")
        elif not self._me.capacity and self._programs.had_root and not tables.roots:
            # A root's own agent has nothing to do without it.
            self._leave_by = now + FAREWELL_SECONDS
            self._check_leaving()
        elif self._drain_by is not None and not tables.hosted and not self._is_needed():
            self._leave_by = now + FAREWELL_SECONDS
            self._check_leaving()
        elif self._drain_by is not None and now >= self._drain_by:
            self._drain_by = math.inf
            for program in tables.programs.values():
                tables.terminate(program, "its node was drained")

    def _is_needed(self) -> bool:
        """Whether a root has no other agent than this one, which is its own."""
        return not self._me.capacity and bool(self._tables.roots)

    def _farewell(self, reason: str) -> None:
        if self._link.is_ready:
            self._out.append(effects.Send(m.Bye(reason)))
        self._stop(self._code, "")

    # Each turn

    def _tick(self, _: events.Tick) -> None:
        self._check_link()
        self._tables.tick()
        self._streams.tick()
        self._delegations.tick()
        if self._link.is_ready:
            self._mirrors.tick()
        self._check_leaving()

    def _check_link(self) -> None:
        if self._link.lease and self._now >= self._frozen_at:
            self._tables.freeze()
        if fault := self._link.fault(self._now):
            self._give_up_link(fault)
        elif self._link.renewal_is_due(self._now) or (
            self._link.is_ready and self._mirrors.wants_word
        ):
            self._renew()

    def _log(self, level: int, text: str) -> None:
        self._out.append(effects.Log(level, text))

    def _stop(self, code: ExitCode, text: str) -> None:
        self._stopped = True
        self._out.append(effects.Stop(code, text))
