"""The client's session: what it has submitted, what the broker knows of it, and what came back.

Pure: no socket, no thread, no clock. `Session.handle(event, now)` takes one event and returns the
effects that the caller must carry out, in order. The same code runs under the I/O thread (`io_thread`)
and under a simulator.

How it works
============

The session keeps the payload of every task until the task has ended. So it can submit again, under the
same ids, what a lost link, a restarted broker or a lost message took with it. The broker takes no task
twice, and the session delivers no task twice; between them lies any number of repetitions.

Tasks are numbered by their job from 0. What is still to be sent is kept as ranges (`SessionJob.runs`),
not task by task: usually one range, the tail. After a link was lost

- and the broker *resumed* the session, everything above what it confirmed is a range again. Results
  and `Accepted` both confirm, and groups come in order, so one number says it all.
- and the broker had *forgotten* it, every unfinished task is.

Results are numbered, and one that was seen is dropped and acknowledged. After a gap the session says
hello, and the broker repeats what it has not seen acknowledged. Acknowledgements wait until
they are worth a message, or a moment has passed: a lone call costs none.

Durable jobs are the broker's: a task that was accepted stands in its journal, and leaves the table
here. Their results come to those that *subscribe* to the job (`subscriptions`), stored ones first. On
every link the session asks for them anew, all of them, and drops what it has seen.

The session numbers the tasks that are appended (`Numbered`), and says when a job is over (`JobOver`):
it is closed, and its tasks have ended. A durable job without a subscription is over
when the journal has it.

Time comes in as `now`. It decides when to ping, when to acknowledge, and when a link counts as lost
because a ping or a hello has not been answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from manyhands._session.effects import (
    Answered,
    Effect,
    Failed,
    JobOver,
    Journaled,
    Numbered,
    Opened,
    Relink,
    Send,
    Show,
    Supply,
    TurnedDown,
    Vanished,
)
from manyhands._session.events import (
    TRANSITIONS,
    AddJob,
    Append,
    Ask,
    AskResult,
    CancelOther,
    CancelTasks,
    Close,
    CloseJob,
    DropResult,
    Event,
    Fetched,
    Flush,
    LinkLost,
    LinkUp,
    PauseResults,
    Received,
    State,
    Subscribe,
    Tick,
    Unsubscribe,
)
from manyhands._session.job_table import JobTable
from manyhands._session.liveness import Due, Liveness
from manyhands._session.result_stream import ResultStream
from manyhands._session.subscriptions import Subscriptions, lost_with_journal
from manyhands._session.unconfirmed_closes import UnconfirmedCloses
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Attach,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Dependencies,
    Detach,
    Inputs,
    Message,
    Need,
    Ping,
    Pong,
    Printed,
    Query,
    Refused,
    Rejected,
    Reply,
    Results,
    Span,
    Standing,
    Submit,
    Want,
    WantResults,
    Who,
)


class Session:
    """One client session. `token` is its 16-byte secret; `info` is what the hello tells of us."""

    def __init__(
        self, token: bytes, *, name: str = "", limit: int = 0, info: dict[str, Any]
    ) -> None:
        self.state = State.CONNECTING
        self.token = token
        #: Messages that made no sense here and were dropped.
        self.dropped = 0
        self._name = name
        self._limit = limit
        self._info = info
        self._now = 0.0
        self._jobs = JobTable()
        self._subscriptions = Subscriptions()
        self._results = ResultStream(self._jobs, self._subscriptions)
        self._unconfirmed_closes = UnconfirmedCloses()
        self._liveness = Liveness()
        self._questions: dict[int, Query] = {}
        self._late_cancels: list[Span] = []  # of tasks that are not in the table

    @property
    def deadline(self) -> float | None:
        """When a `Tick` is due, on the clock of `now`; `None` for never."""
        times = self._liveness.deadlines
        if (due := self._results.acks.due) is not None and due > self._now:
            times.append(due)  # once it has come, `wants_flush` says so
        return min(times, default=None)

    @property
    def wants_flush(self) -> bool:
        """Whether a `Flush` would send something."""
        return self.state is State.OPEN and (
            self._results.acks.is_due(self._now) or self._jobs.sendable
        )

    @property
    def unended(self) -> int:
        """Tasks submitted here that have not ended: those in the table, and those subscribed to."""
        return self._jobs.unended_tasks + self._subscriptions.owed

    @property
    def staying(self) -> int:
        """Those whose results stay with their nodes for other tasks, and that nothing waits for here."""
        return self._results.staying

    @property
    def unended_bytes(self) -> int:
        """Bytes of the arguments of tasks in the table."""
        return self._jobs.unended_bytes

    @property
    def window_bytes(self) -> int:
        """Bytes of arguments that the broker takes: of one task as of all that have not ended."""
        return self._jobs.window_bytes

    def lone_submit(self, job_id: str, index: int | None, body: Payload) -> Submit | None:
        """Return what a `Flush` says if this task is appended now, and nothing happens before.

        `index` is the number that the task will have; None: the next. None is given if there is, or may
        be, more to send. Changes nothing.
        """
        if self.state is not State.OPEN:
            return None
        group = self._jobs.lone_group(job_id, index, body)
        return None if group is None else Submit([group])

    def disown(self) -> None:
        """Close without a word to the broker, in a forked child: the session is the parent's."""
        self.state = State.CLOSED

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; return what is to be done, in this order."""
        if self.state in (State.CLOSED, State.FAILED) and not isinstance(event, Close):
            return []
        self._now = now
        effects = list(_HANDLERS[type(event)](self, event))
        if self._results.has_news:
            effects += self._if_open(self._results.news())
        if self._jobs.finished or self._subscriptions.finished:
            effects += self._finished()
        return effects

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        self._jobs.validate()
        self._subscriptions.validate()
        self._results.validate()
        assert self.state is State.OPEN or not self._liveness.is_pinging, "pings without a session"

    def _if_open(self, effects: Iterable[Effect]) -> list[Effect]:
        """Leave out messages, unless they can be sent: they are said again over the next link."""
        return [e for e in effects if self.state is State.OPEN or not isinstance(e, Send)]

    def _finished(self) -> Iterator[Effect]:
        """Tell of the jobs that this event has brought to an end."""
        jobs, self._jobs.finished = self._jobs.finished, []
        yield from map(JobOver, jobs)
        jobs, self._subscriptions.finished = self._subscriptions.finished, []
        for job in jobs:
            self._jobs.report(job)
            yield from self._if_open([Send(Detach(job))])
            yield JobOver(job)

    # What the user does -------------------------------------------------------------------------

    def _add_job(self, event: AddJob) -> Iterator[Effect]:
        subscribed = event.subscribe and bool(event.options.get("durable"))
        functions = [event.function] if event.code is None else [event.function, event.code]
        self._jobs.add(event.job, functions, event.options, subscribed=subscribed)
        if subscribed:
            self._subscriptions.add(event.job, own=True)
        yield from ()

    def _append(self, event: Append) -> Iterator[Effect]:
        first, ended = self._jobs.append(event.job, event.bodies)
        yield Numbered(event.job, first, len(event.bodies))
        self._subscriptions.owe(event.job, len(event.bodies))
        if ended is not None:
            yield from self._results.deliver(ended)

    def _close_job(self, event: CloseJob) -> Iterator[Effect]:
        self._jobs.close(event.job)
        self._subscriptions.close(event.job)
        yield from self._if_open(self._results.closed(event.job))

    def _cancel_tasks(self, event: CancelTasks) -> Iterator[Effect]:
        """Tasks that were sent end with what the broker says; the others end here and now."""
        journaled = self._cancel_journaled(event)
        ended, spans = self._jobs.cancel(event.job, event.indices)
        for delivery in ended:
            yield from self._results.deliver(delivery)
        if spans and self.state is State.OPEN:
            yield Send(Cancel(spans))
        yield from journaled
        if event.indices is None:
            self._subscriptions.close(event.job)
            yield from self._if_open(self._results.closed(event.job))

    def _cancel_journaled(self, event: CancelTasks) -> list[Effect]:
        """Cancel those of the tasks that the broker's journal has instead of the table."""
        if event.job not in self._subscriptions:
            return []
        if event.indices is None:
            return self._cancel_late([Span(event.job, 0, [])])
        missing = self._subscriptions.unseen(event.job, event.indices)
        missing = sorted(index for index in missing if not self._jobs.has(event.job, index))
        return self._cancel_late([Span(event.job, 0, missing)] if missing else [])

    def _cancel_other(self, event: CancelOther) -> Iterator[Effect]:
        yield from self._cancel_late([Span(event.job, 0, [])])

    def _cancel_late(self, spans: list[Span]) -> list[Effect]:
        """Cancel what is not in the table, now or when the session is open."""
        if self.state is not State.OPEN:
            self._late_cancels += spans
        elif spans:
            return [Send(Cancel(spans))]
        return []

    def _subscription(self, event: Subscribe | Unsubscribe | PauseResults) -> Iterator[Effect]:
        yield from self._if_open(self._subscriptions.order(event))

    def _about_result(self, event: AskResult | DropResult) -> Iterator[Effect]:
        yield from self._if_open(self._results.order(event))

    def _ask(self, event: Ask) -> Iterator[Effect]:
        self._questions[event.request] = query = Query(event.request, event.what, event.arguments)
        yield from self._if_open([Send(query)])

    def _close(self, event: Close) -> Iterator[Effect]:
        if self.state is State.OPEN:
            yield Send(Bye(event.reason))
        if self.state is not State.CLOSED:
            self._become(State.CLOSED)
        self._questions.clear()  # no caller is left to hear the answers

    # The link -----------------------------------------------------------------------------------

    def _link_up(self, _: LinkUp) -> Iterator[Effect]:
        if self.state is State.CONNECTING:
            yield self._hello()

    def _link_lost(self, _: LinkLost) -> Iterator[Effect]:
        self._become(State.CONNECTING)
        yield Relink()

    def _tick(self, _: Tick) -> Iterator[Effect]:
        due = self._liveness.tick(self._now)
        if due is Due.LOST:
            yield from self._link_lost(LinkLost())
        elif due is Due.PING:
            yield Send(Ping(self._liveness.pings))

    def _flush(self, _: Flush) -> Iterator[Effect]:
        """Send the acknowledgement that is due, and at most one `Submit` with its functions."""
        if self.state is not State.OPEN:
            return
        if self._results.acks.is_due(self._now):
            self._results.acks.clear()
            yield Send(Ack(self._results.last_seq))
        functions, groups, doomed = self._jobs.next_submit(self._now)
        yield from map(Send, functions)
        yield from map(Send, self._jobs.standings)
        if self._jobs.inputs:
            yield Send(Inputs(self._jobs.inputs))
        if self._jobs.dependencies:
            yield Send(Dependencies(self._jobs.dependencies))
        if groups:
            yield Send(Submit(groups))
            for group in groups:
                if group.closed and not self._jobs.is_durable(group.job):
                    self._unconfirmed_closes.say(group, self._liveness.pings)
                if group.options is not None and group.job in self._subscriptions:
                    yield Send(Attach(group.job))
        if doomed:
            yield Send(Cancel(doomed))

    def _hello(self) -> Effect:
        self._become(State.GREETING)
        self._liveness.greeted(self._now)
        about = self._name, self._results.last_seq, self._limit, self._info
        return Send(ClientHello(PROTOCOL_VERSION, self.token, *about))

    def _become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} cannot become {state}"
        self.state = state
        self._liveness.stop()

    # What the broker says -----------------------------------------------------------------------

    def _received(self, event: Received) -> Iterator[Effect]:
        message = event.message
        handler = _RECEIVERS.get(type(message))
        if handler is None or (self.state is not State.OPEN and type(message) not in _EARLY):
            self.dropped += 1
            return
        if self.state is State.OPEN:
            self._liveness.heard()
        yield from handler(self, message)

    def _welcome(self, message: ClientWelcome) -> Iterator[Effect]:
        if self.state is not State.GREETING:
            self.dropped += 1
            return
        self._become(State.OPEN)
        self._jobs.window_tasks = max(1, message.window_tasks)
        self._jobs.window_bytes = max(1, message.window_bytes)
        self._liveness.welcomed(message.ping_interval, self._now)
        self._results.welcomed(resumed=message.resumed)
        if not message.resumed:
            self._unconfirmed_closes.clear()
        yield Opened(message.broker, message.resumed)
        ended, spans = self._jobs.rewind(resumed=message.resumed)
        for delivery in ended:
            yield from self._results.deliver(delivery)
        # Those that are not over are closed with the last of their tasks.
        closings = self._unconfirmed_closes.again(self._liveness.pings)
        if closings := [group for group in closings if not self._jobs.knows(group.job)]:
            yield Send(Submit(closings))
        yield from self._subscriptions.again(self._jobs.opened)
        yield from map(Send, self._questions.values())
        if message.resumed:  # another broker hears of offers from the nodes, and we from it
            yield from map(Send, self._results.again())
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
        self._unconfirmed_closes.heard(message.counter)
        yield from ()

    def _need(self, message: Need) -> Iterator[Effect]:
        function = self._jobs.function(message.digest)
        if function is not None:
            yield Send(function)

    def _want_results(self, message: WantResults) -> Iterator[Effect]:
        self._jobs.want(message.spans)
        yield from ()

    def _want(self, message: Want) -> Iterator[Effect]:
        yield Supply(message.key)

    def _accepted(self, message: Accepted) -> Iterator[Effect]:
        self._jobs.window_tasks = max(1, message.window_tasks)
        self._jobs.window_bytes = max(1, message.window_bytes)
        yield from map(Journaled, self._jobs.confirm(message.jobs))

    def _standing(self, message: Standing) -> Iterator[Effect]:
        self._jobs.stand(message)
        yield from ()

    def _rejected(self, message: Rejected) -> Iterator[Effect]:
        known = self._jobs.knows(message.job)
        ended = self._jobs.reject(message.job, message.first, message.reason)
        if ended is not None:
            yield from self._results.deliver(ended)
        if known:
            yield TurnedDown(message.job, message.reason)

    def _detached(self, message: Detach) -> Iterator[Effect]:
        """End a subscription: the broker has nothing of the job, a journal that had it is gone."""
        job = message.job
        if job not in self._subscriptions:
            self.dropped += 1
        elif not self._jobs.knows(job):
            self._subscriptions.lose(job)
            yield Vanished(job)
        elif lost := self._subscriptions.unseen(job, self._jobs.journaled(job)):
            # The rest of the job is here, and goes to the broker again.
            yield from self._results.deliver(lost_with_journal(job, lost))

    def _reply(self, message: Reply) -> Iterator[Effect]:
        if self._questions.pop(message.request, None) is not None:
            yield Answered(message.request, message.error, message.data)

    def _printed(self, message: Printed) -> Iterator[Effect]:
        yield Show(message.node, message.groups)

    def _results_came(self, message: Results) -> Iterator[Effect]:
        if self._results.is_gap(message):
            yield self._hello()
        else:
            yield from self._results.take(message, self._now)

    def _fetched(self, event: Fetched) -> Iterator[Effect]:
        yield from self._if_open(self._results.fetched(event))


# A handler yields its effects; `handle` runs it to its end, so none outlives its event.
_HANDLERS: Mapping[type, Any] = {
    AddJob: Session._add_job,
    Append: Session._append,
    Ask: Session._ask,
    AskResult: Session._about_result,
    CancelOther: Session._cancel_other,
    CancelTasks: Session._cancel_tasks,
    Close: Session._close,
    CloseJob: Session._close_job,
    DropResult: Session._about_result,
    Fetched: Session._fetched,
    Flush: Session._flush,
    PauseResults: Session._subscription,
    LinkLost: Session._link_lost,
    LinkUp: Session._link_up,
    Unsubscribe: Session._subscription,
    Subscribe: Session._subscription,
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
    Printed: Session._printed,
    Refused: Session._refused,
    Rejected: Session._rejected,
    Reply: Session._reply,
    Results: Session._results_came,
    Standing: Session._standing,
    Want: Session._want,
    WantResults: Session._want_results,
    Who: Session._who,
}
# What may come before the session is open. A ping is not answered then: to the broker, whatever comes
# after a hello says that its welcome arrived.
_EARLY = (ClientWelcome, Refused)
