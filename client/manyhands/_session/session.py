"""The client's session: what it has submitted, what the broker knows of it, and what came back.

Pure: no socket, no thread, no clock. `Session.handle(event, now)` takes one event and returns the
effects that the caller must carry out, in order. The same code runs under the I/O thread (`io_thread`)
and under a simulator.

How it works
============

The session holds the payload of every task until the task has ended, so that whatever a lost link,
a restarted broker or a lost message took with it can be submitted again under the same ids. The
broker takes no task twice, and the session delivers no task twice; between them lies any number
of repetitions.

Tasks are numbered by their job from 0. What is still to be sent is kept as ranges (`SessionJob.runs`),
not task by task: usually one range, the tail. After a link was lost

- and the broker *resumed* the session, everything above what it confirmed is a range again
  (results and `Accepted` both confirm, and groups come in order, so one number says it all);
- and the broker had *forgotten* it, every unfinished task is.

Results are numbered; one that was seen is dropped and acknowledged, and after a gap the session
says hello, whereupon the broker repeats what it has not seen acknowledged. Acknowledgements wait until
they are worth a message, or a moment has passed: a lone call costs none.

Durable jobs are the broker's: a task that was accepted stands in its journal, and leaves the books
here. Their results come to whoever *watches* the job (`subscriptions`), stored ones first. On every link
the session asks for them anew, all of them, and drops what it has seen.

Time comes in as `now`. Three things depend on it: when to ping, when a ping or a hello has been
unanswered for so long that the link counts as lost, and when to acknowledge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyhands._session.delayed_acks import Receipts
from manyhands._session.effects import (
    Answered,
    Deliver,
    Effect,
    Failed,
    Fetch,
    Kept,
    Opened,
    Relink,
    Send,
    Supply,
    Turned,
    Vanished,
)
from manyhands._session.events import (
    AddJob,
    Append,
    Ask,
    CancelOther,
    CancelTasks,
    Close,
    CloseJob,
    Event,
    Fetched,
    Flush,
    HoldBack,
    LinkLost,
    LinkUp,
    Received,
    State,
    Tick,
    Unwatch,
    Watch,
)
from manyhands._session.held_results import Fetches, split
from manyhands._session.job_table import Books
from manyhands._session.subscriptions import Watches
from manyhands._session.unconfirmed_closes import Closings
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Attach,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Detach,
    Inputs,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Refused,
    Rejected,
    Reply,
    ResultGroup,
    Results,
    Span,
    Standing,
    Status,
    Submit,
    Throttle,
    Want,
    Who,
)

#: The end of a task of a durable job that no journal has any more.
LOST_WITH_JOURNAL = Failure(
    "manyhands.TaskLost",
    "the broker has no such job: forgotten, or lost with a broker that had no journal",
).encode()
#: A hello or a ping without an answer for this long: the link is taken for lost.
ANSWER_SECONDS = 10.0

# From which state to which. `CLOSED` is final, and so is `FAILED` but for being closed.
_TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTING, State.GREETING, State.FAILED, State.CLOSED}),
    State.GREETING: frozenset({State.CONNECTING, State.OPEN, State.FAILED, State.CLOSED}),
    State.OPEN: frozenset({State.CONNECTING, State.GREETING, State.FAILED, State.CLOSED}),
    State.FAILED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Session:
    """One client session. `token` is its 16-byte secret; `info` is what the hello tells of us."""

    def __init__(
        self, token: bytes, *, name: str = "", limit: int = 0, info: dict[str, Any]
    ) -> None:
        self.state = State.CONNECTING
        self.token = token
        self.books = Books()
        self.watches = Watches()
        #: Messages that made no sense here and were dropped.
        self.dropped = 0
        self._name = name
        self._limit = limit
        self._info = info
        self._now = 0.0
        self._last_seq = 0  # of the results taken
        self._receipts = Receipts()
        self._fetches = Fetches()
        self._closings = Closings()
        self._resyncing = False  # the next results may have any new number
        self._questions: dict[int, Query] = {}
        self._late_cancels: list[Span] = []  # of tasks that are not in the books
        self._ping_interval = 0.0
        self._pings = 0
        self._next_ping: float | None = None
        self._answer_due: float | None = None

    @property
    def deadline(self) -> float | None:
        """When a `Tick` is due, on the clock of `now`; `None` for never."""
        times = [time for time in (self._next_ping, self._answer_due) if time is not None]
        if self._receipts.due is not None and self._receipts.due > self._now:
            times.append(self._receipts.due)  # once it has come, `wants_flush` says so
        return min(times, default=None)

    @property
    def wants_flush(self) -> bool:
        """Whether a `Flush` would send something."""
        return self.state is State.OPEN and (self._must_acknowledge or self.books.sendable)

    @property
    def unended(self) -> int:
        """Tasks submitted here that have not ended: those in the books, and the broker's to watch."""
        return self.books.held_tasks + self.watches.owed

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; return what is to be done, in this order."""
        if self.state in (State.CLOSED, State.FAILED) and not isinstance(event, Close):
            return []
        self._now = now
        return list(_HANDLERS[type(event)](self, event))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        self.books.validate()
        self.watches.validate()
        assert self._receipts.due is None or self._last_seq, "acknowledges what never came"
        assert self.state is State.OPEN or self._next_ping is None, "pings without a session"

    # What the user does -------------------------------------------------------------------------

    def _add_job(self, event: AddJob) -> Iterator[Effect]:
        self.books.add(event.job, event.function, event.options)
        if event.watch and event.options.get("durable"):
            self.watches.add(event.job)
        yield from ()

    def _append(self, event: Append) -> Iterator[Effect]:
        ended = self.books.append(event.job, event.bodies)
        self.watches.owe(event.job, len(event.bodies))
        if ended is not None:
            yield from self._deliver(ended)

    def _close_job(self, event: CloseJob) -> Iterator[Effect]:
        self.books.close(event.job)
        yield from ()

    def _cancel_tasks(self, event: CancelTasks) -> Iterator[Effect]:
        """Tasks that were sent end with what the broker says; the others end here and now."""
        journaled = self._cancel_journaled(event)
        ended, spans = self.books.cancel(event.job, event.indices)
        for delivery in ended:
            yield from self._deliver(delivery)
        if spans and self.state is State.OPEN:
            yield Send(Cancel(spans))
        yield from journaled

    def _cancel_journaled(self, event: CancelTasks) -> list[Effect]:
        """Cancel those of the tasks that the broker's journal has instead of the books."""
        if event.job not in self.watches:
            return []
        if event.indices is None:
            return self._cancel_late([Span(event.job, 0, [])])
        missing = self.watches.unseen(event.job, event.indices)
        missing = sorted(index for index in missing if not self.books.has(event.job, index))
        return self._cancel_late([Span(event.job, 0, missing)] if missing else [])

    def _cancel_other(self, event: CancelOther) -> Iterator[Effect]:
        yield from self._cancel_late([Span(event.job, 0, [])])

    def _cancel_late(self, spans: list[Span]) -> list[Effect]:
        """Cancel what is not in the books, now or when the session is open."""
        if self.state is not State.OPEN:
            self._late_cancels += spans
        elif spans:
            return [Send(Cancel(spans))]
        return []

    def _watch(self, event: Watch) -> Iterator[Effect]:
        if event.job not in self.watches:
            self.watches.add(event.job)
            if self.state is State.OPEN:
                yield Send(Attach(event.job))

    def _unwatch(self, event: Unwatch) -> Iterator[Effect]:
        if event.job in self.watches:
            self.watches.drop(event.job)
            if self.state is State.OPEN:
                yield Send(Detach(event.job))

    def _hold_back(self, event: HoldBack) -> Iterator[Effect]:
        if event.job in self.watches:
            self.watches.hold(event.job, on=event.hold)
            if self.state is State.OPEN:
                yield Send(Throttle(event.job, event.hold))

    def _ask(self, event: Ask) -> Iterator[Effect]:
        query = Query(event.request, event.what, event.arguments)
        self._questions[event.request] = query
        if self.state is State.OPEN:
            yield Send(query)

    def _close(self, event: Close) -> Iterator[Effect]:
        if self.state is State.OPEN:
            yield Send(Bye(event.reason))
        if self.state is not State.CLOSED:
            self._become(State.CLOSED)
        self._questions.clear()  # nobody is left to hear the answers

    # The link -----------------------------------------------------------------------------------

    def _link_up(self, _: LinkUp) -> Iterator[Effect]:
        if self.state is State.CONNECTING:
            yield self._hello()

    def _link_lost(self, _: LinkLost) -> Iterator[Effect]:
        self._become(State.CONNECTING)
        yield Relink()

    def _tick(self, _: Tick) -> Iterator[Effect]:
        if self._answer_due is not None and self._now >= self._answer_due:
            yield from self._link_lost(LinkLost())
        elif self._next_ping is not None and self._now >= self._next_ping:
            self._pings += 1
            self._next_ping = self._now + self._ping_interval
            if self._answer_due is None:
                self._answer_due = self._now + max(2 * self._ping_interval, ANSWER_SECONDS)
            yield Send(Ping(self._pings))

    def _flush(self, _: Flush) -> Iterator[Effect]:
        """Send the acknowledgement that is due, and at most one `Submit` with its functions."""
        if self.state is not State.OPEN:
            return
        if self._must_acknowledge:
            self._receipts.clear()
            yield Send(Ack(self._last_seq))
        functions, groups, doomed = self.books.next_submit(self._now)
        yield from map(Send, functions)
        yield from map(Send, self.books.standings)
        if self.books.inputs:
            yield Send(Inputs(self.books.inputs))
        if groups:
            yield Send(Submit(groups))
            for group in groups:
                if group.closed and not self.books.is_durable(group.job):
                    self._closings.say(group, self._pings)
                if group.options is not None and group.job in self.watches:
                    yield Send(Attach(group.job))
        if doomed:
            yield Send(Cancel(doomed))

    @property
    def _must_acknowledge(self) -> bool:
        return self._receipts.due is not None and self._receipts.due <= self._now

    def _deliver(self, ended: Deliver) -> Iterator[Effect]:
        """Tell of tasks that ended here; a watch must not tell of them again."""
        if ended.job not in self.watches:
            yield self._fetches.fill(ended, 0) if self._fetches else ended
        elif fresh := self.watches.take(ended.job, ended.indices, ended.statuses, ended.bodies):
            yield fresh

    def _hello(self) -> Effect:
        self._become(State.GREETING)
        self._answer_due = self._now + ANSWER_SECONDS
        hello = ClientHello(
            PROTOCOL_VERSION, self.token, self._name, self._last_seq, self._limit, self._info
        )
        return Send(hello)

    def _become(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.state} cannot become {state}"
        self.state = state
        self._next_ping = self._answer_due = None

    # What the broker says -----------------------------------------------------------------------

    def _received(self, event: Received) -> Iterator[Effect]:
        message = event.message
        handler = _RECEIVERS.get(type(message))
        if handler is None or (self.state is not State.OPEN and type(message) not in _EARLY):
            self.dropped += 1
            return
        if self.state is State.OPEN:
            self._answer_due = None
        yield from handler(self, message)

    def _welcome(self, message: ClientWelcome) -> Iterator[Effect]:
        if self.state is not State.GREETING:
            self.dropped += 1
            return
        self._become(State.OPEN)
        self.books.window_tasks = max(1, message.window_tasks)
        self.books.window_bytes = max(1, message.window_bytes)
        self._ping_interval = message.ping_interval
        if message.ping_interval > 0:
            self._next_ping = self._now + message.ping_interval
        if not message.resumed:
            self._last_seq = 0
            self._closings.clear()
        self._receipts.clear()
        self._resyncing = True
        yield Opened(message.broker, message.resumed)
        ended, spans = self.books.rewind(resumed=message.resumed)
        for delivery in ended:
            yield from self._deliver(delivery)
        # Those that are not over are closed with the last of their tasks.
        closings = self._closings.again(self._pings)
        if closings := [group for group in closings if not self.books.knows(group.job)]:
            yield Send(Submit(closings))
        for job_id in self.watches:
            if self.books.opened(job_id):  # the others follow their first tasks
                yield Send(Attach(job_id))
                if self.watches.holds(job_id):
                    yield Send(Throttle(job_id, hold=True))
        yield from map(Send, self._questions.values())
        if message.resumed:  # another broker hears of offers from the nodes, and we from it
            yield from map(Send, self._fetches.again())
        spans += self._late_cancels
        self._late_cancels = []
        if spans:
            yield Send(Cancel(spans))

    def _who(self, _: Who) -> Iterator[Effect]:
        if self.state is State.OPEN:
            yield self._hello()

    def _refused(self, message: Refused) -> Iterator[Effect]:
        self._become(State.FAILED)
        yield Failed(message.code, message.reason)

    def _ping(self, message: Ping) -> Iterator[Effect]:
        yield Send(Pong(message.counter))

    def _pong(self, message: Pong) -> Iterator[Effect]:
        self._closings.heard(message.counter)
        yield from ()

    def _need(self, message: Need) -> Iterator[Effect]:
        function = self.books.function(message.digest)
        if function is not None:
            yield Send(function)

    def _want(self, message: Want) -> Iterator[Effect]:
        yield Supply(message.key)

    def _accepted(self, message: Accepted) -> Iterator[Effect]:
        self.books.window_tasks = max(1, message.window_tasks)
        self.books.window_bytes = max(1, message.window_bytes)
        yield from map(Kept, self.books.confirm(message.jobs))

    def _standing(self, message: Standing) -> Iterator[Effect]:
        self.books.stand(message)
        yield from ()

    def _rejected(self, message: Rejected) -> Iterator[Effect]:
        known = self.books.knows(message.job)
        ended = self.books.reject(message.job, message.first, message.reason)
        if ended is not None:
            yield from self._deliver(ended)
        if known:
            yield Turned(message.job, message.reason)

    def _detached(self, message: Detach) -> Iterator[Effect]:
        """The broker has nothing of a watched job: a journal that had it is gone."""
        job = message.job
        if job not in self.watches:
            self.dropped += 1
        elif not self.books.knows(job):
            self.watches.drop(job)
            yield Vanished(job)
        elif lost := self.watches.unseen(job, self.books.journaled(job)):
            # The rest of the job is here, and goes to the broker again.
            statuses = bytes([Status.LOST]) * len(lost)
            yield from self._deliver(Deliver(job, lost, statuses, [LOST_WITH_JOURNAL] * len(lost)))

    def _reply(self, message: Reply) -> Iterator[Effect]:
        if self._questions.pop(message.request, None) is not None:
            yield Answered(message.request, message.error, message.data)

    def _results(self, message: Results) -> Iterator[Effect]:
        if message.seq <= self._last_seq:
            if message.seq:  # 0 was never a number
                self._receipts.repeat(self._now)
            return
        if message.seq != self._last_seq + 1 and not self._resyncing:
            yield self._hello()
            return
        self._resyncing = False
        self._last_seq = message.seq
        size = 0
        for group in message.groups:
            size += total(group.bodies)
            if group.job in self.watches:
                ended = self.watches.take(group.job, group.indices, group.statuses, group.bodies)
            else:
                if Status.HELD in group.statuses:
                    held, group = split(group)  # noqa: PLW2901 - the rest of it
                    yield from self._offered(group, held)
                ended = self.books.end(group)
                if ended is not None and self._fetches:
                    ended = self._fetches.fill(ended, group.attempt)
            if ended is not None:
                yield ended
        self._receipts.took(size, self._now)

    def _offered(self, group: ResultGroup, held: list[tuple[int, Payload]]) -> Iterator[Effect]:
        for index, ticket in held:
            if self.books.has(group.job, index):
                step = self._fetches.offered(group.job, group.attempt, index, ticket)
                if step is not None:
                    yield step if isinstance(step, Fetch) else Send(step)

    def _fetched(self, event: Fetched) -> Iterator[Effect]:
        verdict = self._fetches.fetched(event)
        if verdict is not None and self.state is State.OPEN:
            yield Send(verdict)


# A handler yields its effects; `handle` runs it to its end, so none outlives its event.
_HANDLERS: Mapping[type, Any] = {
    AddJob: Session._add_job,
    Append: Session._append,
    Ask: Session._ask,
    CancelOther: Session._cancel_other,
    CancelTasks: Session._cancel_tasks,
    Close: Session._close,
    CloseJob: Session._close_job,
    Fetched: Session._fetched,
    Flush: Session._flush,
    HoldBack: Session._hold_back,
    LinkLost: Session._link_lost,
    LinkUp: Session._link_up,
    Unwatch: Session._unwatch,
    Watch: Session._watch,
    Received: Session._received,
    Tick: Session._tick,
}
_RECEIVERS: Mapping[type[Message], Any] = {
    Accepted: Session._accepted,
    ClientWelcome: Session._welcome,
    Need: Session._need,
    Ping: Session._ping,
    Detach: Session._detached,
    Pong: Session._pong,
    Refused: Session._refused,
    Rejected: Session._rejected,
    Reply: Session._reply,
    Results: Session._results,
    Standing: Session._standing,
    Want: Session._want,
    Who: Session._who,
}
# What may come before the session is open. A ping is not answered then: to the broker, whatever comes
# after a hello says that its welcome arrived.
_EARLY = (ClientWelcome, Refused)
