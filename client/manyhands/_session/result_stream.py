"""Results as they come in: numbered, each told once, acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

from manyhands._session.delayed_acks import DelayedAcks
from manyhands._session.effects import Deliver, Effect, Fetch, Send
from manyhands._session.events import Fetched
from manyhands._session.held_results import HeldResults, split
from manyhands._session.job_table import JobTable
from manyhands._session.subscriptions import Subscriptions
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.messages import Relay, ResultGroup, Results, Status, Taken


class ResultStream:
    """Turns messages of results into what is delivered.

    Args:
        jobs: the tasks whose ends are awaited.
        subscriptions: durable jobs, whose tasks the broker's journal has.
    """

    def __init__(self, jobs: JobTable, subscriptions: Subscriptions) -> None:
        #: Of the results taken.
        self.last_seq = 0
        self.acks = DelayedAcks()
        self._jobs = jobs
        self._subscriptions = subscriptions
        self._held = HeldResults()
        self._resyncing = False  # the next results may have any new number

    def welcomed(self, *, resumed: bool) -> None:
        """Expect any number next; from a broker that has forgotten the session, the first."""
        if not resumed:
            self.last_seq = 0
        self.acks.clear()
        self._resyncing = True

    def again(self) -> Iterator[Taken | Relay]:
        """Yield what another broker may not have heard: it hears of offers from the nodes."""
        return self._held.again()

    def is_gap(self, message: Results) -> bool:
        """Return whether results are missing before these: the broker is to repeat them."""
        return message.seq > self.last_seq + 1 and not self._resyncing

    def take(self, message: Results, now: float) -> Iterator[Effect]:
        """Take results, unless they were seen."""
        if message.seq <= self.last_seq:
            if message.seq:  # 0 was never a number
                self.acks.repeat(now)
            return
        self._resyncing = False
        self.last_seq = message.seq
        size = 0
        for group in message.groups:
            size += total(group.bodies)
            if group.job in self._subscriptions:
                ended = self._subscriptions.take(
                    group.job, group.indices, group.statuses, group.bodies
                )
            else:
                if Status.HELD in group.statuses:
                    held, group = split(group)  # noqa: PLW2901 - the rest of it
                    yield from self._offered(group, held)
                ended = self._jobs.end(group)
                if ended is not None and self._held:
                    ended = self._held.fill(ended, group.attempt)
            if ended is not None:
                yield ended
        self.acks.took(size, now)

    def deliver(self, ended: Deliver) -> Iterator[Effect]:
        """Tell of tasks that ended here; a subscription must not tell of them again."""
        if ended.job not in self._subscriptions:
            yield self._held.fill(ended, 0) if self._held else ended
        elif fresh := self._subscriptions.take(
            ended.job, ended.indices, ended.statuses, ended.bodies
        ):
            yield fresh

    def fetched(self, event: Fetched) -> Taken | Relay | None:
        """Take what was fetched; return what the broker is told about it."""
        return self._held.fetched(event)

    def _offered(self, group: ResultGroup, held: list[tuple[int, Payload]]) -> Iterator[Effect]:
        for index, ticket in held:
            if self._jobs.has(group.job, index):
                step = self._held.offered(group.job, group.attempt, index, ticket)
                if step is not None:
                    yield step if isinstance(step, Fetch) else Send(step)
