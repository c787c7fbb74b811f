"""The loop's side of the coordinator: hands it its events, writes its log, does what it wants done.

Before the first such message or question there is no coordinator, and `finish` returns at once where
nothing has happened. So a broker without programs of several processes pays a comparison a message.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from manyhands_broker.coordination.effects import Effect, Write
from manyhands_broker.core import Drained, Event, Forget, LinkClosed, Received, Say, Send
from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.write_ahead_log import RecordLog
from manyhands_shared.protocol.messages import Message

if TYPE_CHECKING:
    from manyhands_broker.coordination.coordinator import Coordinator

log = logging.getLogger("manyhands.broker")

#: The least number of the messages that are the coordinator's, whatever link they come over.
FIRST_NUMBER = 64


class CoordinationDriver:
    """Drives a `Coordinator`.

    Args:
        make: makes the core, when it is needed.
        record_log: where its records go.
        breakdowns: is told what raises.
    """

    def __init__(
        self, make: Callable[[], Coordinator], record_log: RecordLog, breakdowns: Breakdowns
    ) -> None:
        self._make = make
        self._log = record_log
        self._breakdowns = breakdowns
        self._made: Coordinator | None = None
        #: Whether there is a core; if not, neither `due` nor `finish` has anything to do.
        self.active = False
        #: The links of host agents: all that comes over them is the coordinator's.
        self.links: Mapping[bytes, object] = {}
        self._effects: list[Effect] = []
        self._touched = False

    @property
    def coordinator(self) -> Coordinator:
        """The core; it is made now, if it was not needed before."""
        if self._made is None:
            self._made = self._make()
            self.links = self._made.state.agent_of
            self.active = True
        return self._made

    def restore(self, now: float) -> None:
        """Bring back what the log has. Call it once, before the first event."""
        records = list(self._log.load())
        if records:
            self._effects += self.coordinator.restore(records, now)
            self._touched = True

    def ask(self, what: str, arguments: Mapping[str, Any], who: Identity, account: str) -> Any:
        """Answer a query of a client; see `core.coordination`."""
        return self.coordinator.ask(what, arguments, who, account)

    def figures(self) -> dict[str, Any]:
        """Return the figures of this moment, for metrics; empty where there are no programs."""
        return {} if self._made is None else self._made.figures()

    def due(self, now: float) -> float:
        """Return when `finish` has something to do though nothing happens."""
        if self._touched or self._made is None or self._log.working:
            return now
        wake_at = self._made.wake_at
        return math.inf if wake_at is None else wake_at

    def take(self, event: Event, now: float) -> None:
        """Hand the coordinator an event; its effects wait for `finish`."""
        if self._made is None and not isinstance(event, Received):
            return
        coordinator = self.coordinator
        self._touched = True
        try:
            self._effects += coordinator.handle(event, now)
        except Exception as error:
            # One odd message must not end everybody's work.
            kind = type(event.message if isinstance(event, Received) else event).__name__
            self._breakdowns.of(error, None, f"{kind} could not be handled")
            log.debug("%s could not be handled", kind, exc_info=True)
            self._effects += coordinator.collect()

    def finish(
        self,
        now: float,
        send: Callable[[bytes, Message], bool],
        forget: Callable[[bytes], object],
    ) -> None:
        """End a turn: conclude the drain, write the log, then do what there is to do.

        Args:
            now: the time.
            send: sends a message; false if there is no such link.
            forget: drops what waits for a link.
        """
        if self._log.working:
            self._log.work()
        if not self._touched and self.due(now) > now:
            return
        self.take(Drained(), now)
        while self._effects:
            effects, self._effects = self._effects, []
            records = [effect.record for effect in effects if type(effect) is Write]
            if records:
                self._log.write(records, now)
            closed: dict[bytes, None] = {}
            for effect in effects:
                # Not `match`, which takes several times as long for the first of these.
                if type(effect) is Send:
                    if not send(effect.peer, effect.message):
                        closed[effect.peer] = None
                elif type(effect) is Forget:
                    forget(effect.peer)
                elif type(effect) is Say:
                    log.log(effect.level, "%s", effect.text)
            for peer in closed:
                self.take(LinkClosed(peer), now)
            if closed:
                self.take(Drained(), now)
        self._touched = False
