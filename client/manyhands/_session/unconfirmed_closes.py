"""Closings of attached jobs that the broker may not have, though the jobs are over here.

A job is over when it is closed and its tasks have ended. Nothing says that its closing has arrived. If
that is lost with the link, the broker keeps an open job for as long as the session lives. So the
closings of the last moments are kept, and said again when the session is resumed over another link. The
answer to a ping that was sent after one says that it has arrived.
"""

from __future__ import annotations

from collections import OrderedDict

from manyhands_shared.protocol.messages import SubmitGroup

#: The oldest are let go beyond that.
MAX_CLOSINGS = 10_000


class UnconfirmedCloses:
    """What was said and perhaps not heard."""

    def __init__(self) -> None:
        #: Job → pings sent before, and the group that closes it; in the order of sending.
        self._said: OrderedDict[str, tuple[int, SubmitGroup]] = OrderedDict()

    def say(self, group: SubmitGroup, pings: int) -> None:
        """Keep a group that closes its job, sent after the ping of number `pings`."""
        stop = group.first + len(group.bodies)
        closing = SubmitGroup(group.job, group.function, None, stop, True, [])
        self._said[group.job] = pings, closing
        self._said.move_to_end(group.job)
        if len(self._said) > MAX_CLOSINGS:
            self._said.popitem(last=False)

    def heard(self, ping: int) -> None:
        """The broker has answered this ping: it has what was sent before."""
        while self._said and next(iter(self._said.values()))[0] < ping:
            self._said.popitem(last=False)

    def again(self, pings: int) -> list[SubmitGroup]:
        """Return everything, to be sent now, after the ping of number `pings`."""
        groups = [group for _, group in self._said.values()]
        self._said = OrderedDict((group.job, (pings, group)) for group in groups)
        return groups

    def clear(self) -> None:
        """The broker has forgotten the session, and the jobs with it."""
        self._said.clear()
