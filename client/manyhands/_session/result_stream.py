"""Results as they come in: numbered, each told once, acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

from manyhands._session.delayed_acks import DelayedAcks
from manyhands._session.effects import Deliver, Effect, Fetch, Send, Stays
from manyhands._session.events import AskResult, DropResult, Fetched
from manyhands._session.held_results import HeldResults, Step, split
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
        self._held = HeldResults(jobs.results)
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
                if ended is not None:
                    ended = self._finished(ended, group.attempt)
            if ended is not None:
                yield ended
        self.acks.took(size, now)

    def deliver(self, ended: Deliver) -> Iterator[Effect]:
        """Tell of tasks that ended here; a subscription must not tell of them again."""
        if ended.job not in self._subscriptions:
            if (fresh := self._finished(ended, 0)) is not None:
                yield fresh
        elif fresh := self._subscriptions.take(
            ended.job, ended.indices, ended.statuses, ended.bodies
        ):
            yield fresh

    def fetched(self, event: Fetched) -> Iterator[Effect]:
        """Take what was fetched; tell the broker about it, or the user."""
        yield from _effects(self._held.fetched(event))

    @property
    def staying(self) -> int:
        """How many results stay with their nodes for other tasks, and nothing waits for them here."""
        return self._held.staying

    @property
    def has_news(self) -> bool:
        """Whether there is something to be done that no message or order asks for."""
        return self._jobs.results.has_news or (bool(self._held) and self._jobs.is_full)

    def order(self, event: AskResult | DropResult) -> Iterator[Effect]:
        """Bring a result that may stay with its node, or leave it to the tasks that need it."""
        task = event.job, event.index
        if self._jobs.has(*task):
            wants = isinstance(event, AskResult)
            yield from _effects(self._held.ask(task) if wants else self._held.drop(task))

    def news(self) -> Iterator[Effect]:
        """See to results that no task needs any more, and to those that the broker lacks.

        If the window is full, have one come here that stays with its node.
        """
        results = self._jobs.results
        tasks, results.unneeded = results.unneeded, []
        for task in tasks:
            yield from _effects(self._held.look(task, closed=self._jobs.is_closed(task[0])))
        yield from map(Send, results.messages())
        if self._jobs.is_full:
            yield from _effects(self._held.relieve())

    def closed(self, job: str) -> Iterator[Effect]:
        """Bring what stays with its node for no task: nothing may wait for it later."""
        for task in self._held.of_job(job):
            yield from _effects(self._held.look(task, closed=True))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        self._held.validate()
        assert self.acks.due is None or self.last_seq, "acknowledges what never came"

    def _finished(self, ended: Deliver, attempt: int) -> Deliver | None:
        """Complete what has ended, keep what other tasks need of it; return what is new to the user."""
        if not self._held:
            self._jobs.results.note(ended)
            return ended
        ended = self._held.fill(ended, attempt)
        self._jobs.results.note(ended)
        return self._held.forget(ended)

    def _offered(self, group: ResultGroup, held: list[tuple[int, Payload]]) -> Iterator[Effect]:
        for index, ticket in held:
            if self._jobs.has(group.job, index):
                closed = self._jobs.is_closed(group.job)
                step = self._held.offered(group.job, group.attempt, index, ticket, closed=closed)
                yield from _effects(step)
                if self._held.rests((group.job, index)):
                    yield Stays(group.job, index)


def _effects(step: Step | Deliver | None) -> Iterator[Effect]:
    if step is not None:
        yield step if isinstance(step, Fetch | Deliver) else Send(step)
