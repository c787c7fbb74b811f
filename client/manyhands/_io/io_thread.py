"""The I/O thread: carries a `Session` over a `Link` and feeds results to the jobs' sinks.

One thread per client owns the socket and the session core; all others reach it through the
`SubmitQueue`. What has queued up by the time the thread comes round leaves as one message: a flood in
vectors. A lone task is sent by the thread that submits it, over the link that this one has lent (see
`inline`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from manyhands._io import cells
from manyhands._io.inline import KEEP_SECONDS, Arrived, InlineCalls, Sent
from manyhands._io.job_registry import JobRegistry
from manyhands._io.link_polling import LinkPolling
from manyhands._io.open_job import before_orphans
from manyhands._io.poller import Poller
from manyhands._io.printer import Printer
from manyhands._io.silence_notice import SilenceNotice
from manyhands._io.submit_queue import SubmitQueue
from manyhands._io.transfers import Transfers
from manyhands._session import Session
from manyhands._session.effects import (
    Answered,
    Deliver,
    Effect,
    Failed,
    Fetch,
    JobOver,
    Journaled,
    Numbered,
    Opened,
    Relink,
    Send,
    Show,
    Stays,
    Supply,
    TurnedDown,
    Vanished,
)
from manyhands._session.events import (
    Close,
    Event,
    Flush,
    LinkLost,
    LinkUp,
    Received,
    State,
    Tick,
)
from manyhands_shared.clock import monotonic
from manyhands_shared.conditions import Latch
from manyhands_shared.errors import (
    KEY_CODES,
    BrokerUnreachable,
    ClusterClosed,
    ManyhandsError,
    NotAuthorised,
    Refused,
)
from manyhands_shared.processes import task_waits
from manyhands_shared.processes.thread_start import must_start
from manyhands_shared.protocol.messages import Message
from manyhands_shared.security.role_key import Credentials
from manyhands_shared.text import printable
from manyhands_shared.transport.address import is_unix
from manyhands_shared.transport.failover import Route
from manyhands_shared.transport.link.connector import Connector, Lost, Up

log = logging.getLogger("manyhands.client")

#: Handshakes, one each 100 ms, that are broken off before we believe that we are not wanted.
BROKEN_HANDSHAKES = 10
#: Messages sent in one turn.
_TURN_FLUSHES = 4
#: How long a broker may say nothing before the user is told what is tried.
QUIET_SECONDS = 2.0
#: How long to try by default; and before a look whether there is anything to be tried.
CONNECT_SECONDS, _FIRST_SECONDS = 10.0, 1.0
#: How long that look may take, so that a command gives up within two seconds.
_LAST_SECONDS = 0.7
#: How long one more attempt may take, to say why there is no broker.
_ATTEMPT_SECONDS = 1.0
#: A broker that is away may take this time to hear of cancellations, before a session ends without that.
_FAREWELL_SECONDS = 5.0
#: How long to wait for the I/O thread to come to rest, for a figure.
_SETTLE_SECONDS = 0.1

_threads: weakref.WeakSet[IOThread] = weakref.WeakSet()


def _unreachable(where: str) -> BrokerUnreachable:
    return BrokerUnreachable(
        f"no broker answers at {where}. Start one with `manyhands broker`, or check the address"
    )


class IOThread:
    """A session with the broker at `address` and the thread that serves it.

    Args:
        address: full address of the broker.
        key: the cluster key, or `None` for a broker without one.
        session: the session, new.
        queue: the queue of what is to be submitted.

    Raises:
        OSError: the system gives no thread or descriptor.
    """

    def __init__(
        self, address: str, key: Credentials | None, session: Session, queue: SubmitQueue
    ) -> None:
        self.address = address
        self.queue = queue
        self._session = session
        self._settled = threading.Event()
        self._stopping = False
        self._when_idle: Callable[[], None] | None = None
        self._give_up_at = math.inf
        self._at_end: Callable[[], None] | None = None
        self._pid = os.getpid()
        self._poller = Poller()
        self._poller.register(queue.wake_fd)
        self._transfers = Transfers(
            session.token, queue, self._poller, self._send_if_open, keyed=key is not None
        )
        self.store = self._transfers.store
        #: Shows what tasks print.
        self.printer = Printer()
        self.registry = JobRegistry(self._transfers, self._handle)
        self._delivered = 0
        self._silence = SilenceNotice(
            lambda: self.address,
            lambda answer: self.registry.ask(answer, "standstill", {}),
            self.printer.note,
        )
        route = Route(address)
        self._inline = InlineCalls(session, queue, self._poller, can_spin=is_unix(route.current))
        self._polling = LinkPolling(self._poller, self._inline.expel)
        self._connector = Connector(
            route,
            key,
            key_option="key_file=…, --key-file or MANYHANDS_KEY_FILE",
            wrong_key="does not take this key; use its cluster key",
            broken_handshakes=BROKEN_HANDSHAKES,
            before_close=self._polling.stop,
        )
        #: Waits for the result of a lone task without sleeping, if that is of use.
        self.spin = self._inline.spin
        #: When the I/O thread will wake up, if nothing wakes it before.
        self._wakes_at = 0.0
        # Callers that send by themselves go on to do so: then it need not be woken for each.
        self._look_again_at = math.inf
        self._over = Latch()
        self._thread = threading.Thread(target=self._run, name="manyhands-client", daemon=True)
        queue.send_here = self._inline.send
        _threads.add(self)
        cells.watch(_threads)
        must_start(self._thread)

    # For any thread -----------------------------------------------------------------------------

    def wait_open(self, timeout: float | None) -> None:
        """Wait until the broker has taken this session in.

        Args:
            timeout: seconds for that; `None` is as `Client` has it.

        Raises:
            BrokerUnreachable: it did not within `timeout` seconds.
            NotAuthorised, Refused: it does not want to.
        """
        if timeout is None:
            timeout = CONNECT_SECONDS
            if not self._settled.wait(_FIRST_SECONDS):
                self._give_up_where_nothing_listens()
        if timeout > QUIET_SECONDS and not self._settled.wait(QUIET_SECONDS):
            self._say_where(timeout)
            timeout -= QUIET_SECONDS
        self._settled.wait(timeout)
        if self.queue.error is not None:
            raise self.queue.error
        if not self._settled.is_set():
            from manyhands_shared.transport.reachability import silence  # noqa: PLC0415 - seldom needed

            raise _unreachable(silence(self.address, _ATTEMPT_SECONDS))

    def _give_up_where_nothing_listens(self) -> None:
        """Raise `BrokerUnreachable` unless some process listens at one of the addresses."""
        from manyhands_shared.transport.reachability import silence_of_all  # noqa: PLC0415 - seldom needed

        why = silence_of_all(self.address, _LAST_SECONDS)
        if why and not self._settled.is_set():
            raise _unreachable(why)

    def _say_where(self, timeout: float) -> None:
        """Tell what is tried, and why it fails. A broker of this machine may be about to start."""
        if not is_unix(self.address):
            from manyhands_shared.transport.reachability import silence  # noqa: PLC0415 - seldom needed

            where = printable(silence(self.address, _ATTEMPT_SECONDS))
            if not self._settled.is_set():
                self.printer.note(
                    f"manyhands: no broker answers yet at {where}; trying for {timeout:g} s\n"
                )

    def on_thread(self) -> bool:
        """Whether the caller is the I/O thread, which must never wait for results."""
        return threading.get_ident() == self.queue.owner

    def call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have the I/O thread call this, behind everything that was queued before."""
        self.queue.command(partial(call, *arguments))

    def ask(self, what: str, arguments: dict[str, Any]) -> Future[Any]:
        """Put a question to the broker; the future has the data of its reply, or `Refused`."""
        answer: Future[Any] = Future()
        self.call(self.registry.ask, answer, what, arguments)
        return answer

    def close(self, error: BaseException, then: Callable[[], None]) -> None:
        """Leave the broker now; what has not ended fails with `error`.

        `then` is called when all is done, on the I/O thread if that still lives.
        """
        self.call(self._stop, error, then)

    def close_when_idle(self, then: Callable[[], None]) -> None:
        """The same, as soon as no task is left."""
        self.call(self._finish, then)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, after one of the above."""
        if self._pid != os.getpid() or self.on_thread():
            return
        # Not `join` at once: when a signal handler's exception ends that, it takes the thread for ended.
        if self._over.wait(timeout):
            self._thread.join(timeout)

    def unended(self) -> int:
        """How many tasks have not ended. It is exact while the I/O thread sleeps, which it soon does."""
        deadline = monotonic() + _SETTLE_SECONDS
        while True:
            sleep = self.queue.asleep
            count = self._inline.unended + self.queue.waiting
            undisturbed = sleep and sleep == self.queue.asleep
            if undisturbed or self._stopping or self.on_thread() or monotonic() >= deadline:
                return count
            time.sleep(_SETTLE_SECONDS / 100)

    def disown(self) -> None:
        """In a forked child: the thread and the socket are the parent's, and never touched here."""
        self._stopping = True
        self._session.disown()
        self._connector.disown()
        error = ClusterClosed(
            "this process was forked from the one that connected; connect anew here"
        )
        self.registry.orphan(error)
        lost = [(sent.job, sent.future) for sent in self._inline.orphan()]
        for job, entry in lost + self.queue.orphan(error):
            job.sink.orphan(error, [entry])

    # On the I/O thread --------------------------------------------------------------------------

    def _run(self) -> None:
        self.queue.owner = threading.get_ident()
        try:
            while not self._stopping:
                self._turn(self._wait())
        except BaseException as error:  # SystemExit as well: all else would wait for ever
            log.exception("the client's I/O thread failed")
            self._end(ManyhandsError(f"manyhands failed inside ({error!r}); please report this"))
        finally:
            with contextlib.ExitStack() as stack:  # each, whatever the others raise; the last first
                if self._at_end is not None:
                    stack.callback(self._at_end)
                stack.callback(self.queue.reject)
                stack.callback(self._transfers.close)
                stack.callback(self._connector.close, flush=True)
                stack.callback(self.printer.close)
                for record in self._inline.take_back()[0]:
                    if isinstance(record, Sent):
                        stack.callback(record.job.sink.reject, [record.future], [record.payload])
            self._over.set()

    def _wait(self) -> dict[Any, int]:
        """Sleep until there is something to do; returns the descriptors that are ready."""
        if self._is_busy():
            return self._poller.wait(0)
        link = self._connector.link
        if link is not None and self._session.state is State.OPEN and self._when_idle is None:
            self._inline.lend(link, self._wakes_at)
        while True:
            # A spinning caller that is overdue loses the link; from one that is not, nothing is taken.
            overdue_at = self._inline.deadline
            until = self._wakes_at if overdue_at is None else min(self._wakes_at, overdue_at)
            ready = self._poller.wait(None if until == math.inf else max(0.0, until - monotonic()))
            now = monotonic()
            if ready or now >= self._wakes_at or self._inline.must_listen(now):
                return ready

    def _turn(self, ready: dict[Any, int]) -> None:
        queue, session = self.queue, self._session
        queue.woken()
        taken, torn = self._inline.take_back()
        self._enter(taken, torn)
        self._look_again_at = monotonic() + 2 * KEEP_SECONDS if taken else math.inf
        if queue.wake_fd in ready:
            queue.hush()
        for descriptor in self._polling.ready(ready):
            self._connector.wake(descriptor)
        self._receive()
        for fetched in self._transfers.turn(ready):
            self._handle(fetched)
        if not queue.empty:
            self.registry.take(queue.take())
        deadline = session.deadline
        if deadline is not None and monotonic() >= deadline:
            self._handle(Tick())
        self._notice(monotonic())
        if self._connector.congested:
            self._connector.drain()
        self._flush()
        awaited = session.unended - session.staying
        queue.publish(awaited, session.unended_bytes)
        task_waits.note(id(self), waits=awaited > 0)
        if self._when_idle is not None and queue.empty and self._is_done():
            self._stop(ClusterClosed("the session was closed"), self._when_idle)

    def _notice(self, now: float) -> None:
        """Tell of lines that were left out, and of silence."""
        session = self._session
        self.printer.tick(now)
        self._silence.turn(
            now,
            unended=session.unended,
            delivered=self._delivered,
            is_open=session.state is State.OPEN,
        )

    def _is_done(self) -> bool:
        """Whether all is over, or cancelled and the broker is away."""
        session = self._session
        if session.unended and session.state is not State.OPEN:
            return monotonic() >= self._give_up_at and not self.registry.wanted
        return not session.unended

    def _enter(self, log: list[Sent | Arrived], torn: bool) -> None:
        """Have the session learn what callers have done with the link meanwhile."""
        for record in log:
            if isinstance(record, Sent):
                self.registry.take([(record.job, record.future, record.payload)])
                self._handle(Flush(), said=record.message)
            elif record.link is self._connector.link and not self._stopping:
                for message in record.messages:
                    self._handle(Received(message))
        if torn and self._session.state in (State.OPEN, State.GREETING):
            self._handle(LinkLost())

    def _flush(self) -> None:
        for _ in range(_TURN_FLUSHES):
            if self._connector.congested or not self._session.wants_flush:
                return
            self._handle(Flush())

    def _is_busy(self) -> bool:
        """Whether there is something to do at once; if not, `_wakes_at` says when there is."""
        connector = self._connector
        if not self._polling.follows(connector) or self._inline.must_listen(monotonic()):
            self._polling.poll(connector)
        if connector.pending() or (self._session.wants_flush and not connector.congested):
            return True
        if self._transfers.pending or not self.queue.about_to_sleep():
            return True
        notices = self.printer.deadline, self._silence.deadline
        deadlines = self._session.deadline, connector.deadline, *notices
        times = [time for time in deadlines if time is not None]
        if monotonic() < self._give_up_at < math.inf:
            times.append(self._give_up_at)
        self._wakes_at = min((self._look_again_at, *times))
        return False

    def _receive(self) -> None:
        """Tell the session what happened to the link, and what came over it."""
        try:
            for event in self._connector.turn(monotonic()):
                match event:
                    case Up():
                        self._handle(LinkUp())
                    case Lost():
                        self._handle(LinkLost())
                    case _:
                        self._handle(Received(event))
                if self._stopping:
                    return
        except NotAuthorised as error:
            self._stop(error)

    def _handle(self, event: Event, said: Message | None = None) -> None:
        """Tell the session, and do what it says, but for a message that was `said` before."""
        for effect in self._session.handle(event, monotonic()):
            if said is None or type(effect) is not Send or effect.message != said:
                self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self._connector.send(message)
            case Numbered(first=first):
                self.registry.numbered(first)
            case Deliver():
                self._delivered += 1
                self.registry.deliver(effect)
            case JobOver() | Stays() | Journaled() | Vanished():
                self._tell_of(effect)
            case Fetch():
                self._transfers.fetch(effect)
            case Supply(key):
                self._transfers.supply(key)
            case TurnedDown(job_id, reason):
                self.registry.turned_down(job_id, reason)
            case Show(node, groups):
                self.printer.show(node, groups, monotonic(), self.registry.printing_rules)
            case Answered():
                self.registry.answered(effect)
            case Opened():
                self.queue.task_bytes = self._session.window_bytes
                self._settled.set()
            case Relink():
                self._connector.reconnect(monotonic())
            case Failed(code, reason):
                text = f"the broker refuses: {reason}"
                self._stop(NotAuthorised(text) if code in KEY_CODES else Refused(code, text))

    def _tell_of(self, effect: JobOver | Stays | Journaled | Vanished) -> None:
        """Tell those who have a job open what has become of it."""
        match effect:
            case JobOver(job_id):
                self.registry.over(job_id)
            case Stays(job_id, index):
                self.registry.stays(job_id, index)
            case Journaled(job_id):
                self.registry.journaled(job_id)
            case Vanished(job_id):
                self.registry.vanished(job_id)

    def _send_if_open(self, message: Message) -> None:
        if self._session.state is State.OPEN:
            self._connector.send(message)

    def _stop(self, error: BaseException, then: Callable[[], None] | None = None) -> None:
        if not self._stopping:
            self._at_end = then
            self._handle(Close(str(error)[:200]))
            self._end(error)
        elif then is not None:
            then()

    def _finish(self, then: Callable[[], None]) -> None:
        if self._stopping:
            then()
        else:
            self._when_idle = then
            # What stays with its node until its job is closed would never end.
            self.registry.close_all()
            self._give_up_at = monotonic() + _FAREWELL_SECONDS

    def _end(self, error: BaseException) -> None:
        """Nothing will come any more: tell everybody."""
        self._stopping = True
        task_waits.note(id(self), waits=False)
        self.registry.shut(error)
        self.queue.shut(error)
        self.registry.end(error)
        self._settled.set()


def _disown_all() -> None:
    for renew in before_orphans:
        renew()
    for io in list(_threads):
        io.disown()


os.register_at_fork(after_in_child=_disown_all)
