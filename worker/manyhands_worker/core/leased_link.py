"""The link to the broker as the core of a node or of a host agent knows it: its phase, its lease."""

from __future__ import annotations

import math
from enum import Enum

#: From the hello on; a link that brings no welcome by then is given up.
WELCOME_SECONDS = 10.0


class Phase(Enum):
    """How far the present link has come."""

    DOWN = "down"
    GREETING = "greeting"
    READY = "ready"


class LeasedLink:
    """What passes between a core and the broker about the link itself.

    The lease counts from when the renewal was sent that the broker answers, or the hello. The broker
    counts from when it saw that, which was no sooner.
    """

    __slots__ = (
        "_counter",
        "_hello_at",
        "_renewals",
        "_renewed_at",
        "due",
        "interval",
        "is_ready",
        "lease",
        "leased_at",
        "phase",
    )

    def __init__(self) -> None:
        self.phase = Phase.DOWN
        #: Whether the broker has welcomed this end over the present link.
        self.is_ready = False
        #: When `fault` or `renewal_is_due` may have news; a loop looks at it in each of its turns.
        self.due = math.inf
        #: Seconds, from the welcome on: of the lease, and between two renewals.
        self.lease = self.interval = 0.0
        #: From when the lease counts.
        self.leased_at = 0.0
        self._renewed_at = self._hello_at = 0.0
        # When each renewal was sent that is not answered yet.
        self._renewals: dict[int, float] = {}
        self._counter = 0

    def greeted(self, now: float) -> None:
        """A hello is sent."""
        self._enter(Phase.GREETING)
        self._hello_at, self.due = now, now + WELCOME_SECONDS

    def welcomed(self, lease: float, interval: float) -> None:
        """The broker has let this end in."""
        self._enter(Phase.READY)
        self.lease, self.interval = lease, interval
        self.leased_at = self._renewed_at = self._hello_at
        self._renewals.clear()
        self._reckon()

    def lost(self) -> None:
        """The link is gone, or given up."""
        self._enter(Phase.DOWN)
        self.due = math.inf

    def renew(self, now: float) -> int:
        """Begin a renewal; return its number."""
        self._counter += 1
        self._renewed_at = self._renewals[self._counter] = now
        self._reckon()
        return self._counter

    def extended(self, counter: int) -> bool:
        """The broker answers a renewal. Return whether there is such a one."""
        sent = self._renewals.get(counter)
        if sent is None:
            return False
        self.leased_at = max(self.leased_at, sent)
        self._renewals = {n: at for n, at in self._renewals.items() if n > counter}
        self._reckon()
        return True

    def fault(self, now: float) -> str:
        """Return why the link is to be given up; empty while it is not."""
        if self.phase is Phase.READY and now >= self.leased_at + self.lease:
            return f"the lease was not renewed for {self.lease:g} s"
        if self.phase is Phase.GREETING and now >= self._hello_at + WELCOME_SECONDS:
            return "no answer to the hello"
        return ""

    def renewal_is_due(self, now: float) -> bool:
        """Whether it is time to ask for more."""
        return self.phase is Phase.READY and now >= self._renewed_at + self.interval

    def _enter(self, phase: Phase) -> None:
        self.phase, self.is_ready = phase, phase is Phase.READY

    def _reckon(self) -> None:
        self.due = min(self._renewed_at + self.interval, self.leased_at + self.lease)
