"""When the session pings, and when a link counts as lost because nothing comes over it."""

from __future__ import annotations

from enum import Enum

#: A hello or a ping without an answer for this long: the link is taken for lost.
ANSWER_SECONDS = 10.0


class Due(Enum):
    """What time has come for."""

    NOTHING = "nothing"
    PING = "ping"
    LOST = "lost"


class Liveness:
    """The timers of one session. Times are those of `now`."""

    def __init__(self) -> None:
        #: Pings that were sent; the number of the last one.
        self.pings = 0
        self._interval = 0.0
        self._next_ping: float | None = None
        self._answer_due: float | None = None

    def stop(self) -> None:
        """Wait for nothing: there is no session on the link."""
        self._next_ping = self._answer_due = None

    def greeted(self, now: float) -> None:
        """Await the answer to a hello."""
        self._answer_due = now + ANSWER_SECONDS

    def welcomed(self, interval: float, now: float) -> None:
        """Ping each `interval` seconds; never, if it is 0."""
        self._interval = interval
        if interval > 0:
            self._next_ping = now + interval

    def heard(self) -> None:
        """Take note that something came, whatever it was: the link is alive."""
        self._answer_due = None

    def tick(self, now: float) -> Due:
        """Return what is due; a ping counts as sent now."""
        if self._answer_due is not None and now >= self._answer_due:
            return Due.LOST
        if self._next_ping is None or now < self._next_ping:
            return Due.NOTHING
        self.pings += 1
        self._next_ping = now + self._interval
        if self._answer_due is None:
            self._answer_due = now + max(2 * self._interval, ANSWER_SECONDS)
        return Due.PING

    @property
    def deadlines(self) -> list[float]:
        """When something will be due."""
        return [time for time in (self._next_ping, self._answer_due) if time is not None]

    @property
    def is_pinging(self) -> bool:
        """Whether a ping is to come."""
        return self._next_ping is not None
